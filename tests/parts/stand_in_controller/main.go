// A stand-in for the W&B controller (wandb/controller 1.22.0), which no test environment can be expected to have.
//
// It is written from what the real controller was seen to do in a cluster, each of which is a test in
// tests/live/test_observed.py: it reads custom resources WeightsAndBiases (apps.wandb.com/v1), fetches the chart that
// each names, installs or upgrades it with Helm 4.1.4 as a release of the same name, and removes it again. It keeps
// what it has applied last in Secret NAME-spec-active, and merges the settings of Secret NAME-spec-user behind the
// resource's own values. Its log is JSON, one line an entry.
//
// These defects are those of the original, and are here on purpose:
//
//   - phase Completed says that Helm has applied the chart, and nothing of pods;
//   - what it has refused (phase Invalid Config) it tries again after an hour only, after a change of the specification,
//     or when it starts anew;
//   - each hook has 30 s, the pull of its image included; when they are over, the release stays broken;
//   - ended while it is at work, it leaves the release pending, and Helm refuses all further changes of it;
//   - every change of the resource is a Helm upgrade, a change of the chart's source as well;
//   - to delete a resource whose chart is in a repository, it fetches that chart once more; where it cannot, and where
//     there is no release to remove, its finalizer stays, and it tries again each minute;
//   - it never gives up its office as leader, so its successor looks on until that is void;
//   - keys of the chart that the resource does not use are spelt out in Secret NAME-spec-active. Where those are keys of
//     a `credentialSecret`, the resource is taken to be changed each time that it looks at it.
//
// Not here is what airferry's sites do not have: W&B's deployer service (AIRGAPPED is taken to be true).
package main

import (
	"flag"
	"log/slog"
	"os"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

func main() {
	elects := flag.Bool("leader-elect", false, "work only as the leader")
	isolated := flag.String("isolation-namespaces", "", "namespaces to look at, separated by commas; all if empty")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	// Helm's own remarks are no part of the log.
	slog.SetDefault(slog.New(logr.ToSlogHandler(logr.Discard())))
	if err := run(*elects, *isolated); err != nil {
		ctrl.Log.Error(err, "cannot run")
		os.Exit(1)
	}
}

func run(elects bool, isolated string) error {
	namespaces := map[string]cache.Config{}
	for _, name := range strings.FieldsFunc(isolated, func(letter rune) bool { return letter == ',' }) {
		namespaces[name] = cache.Config{}
	}
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Cache:                   cache.Options{DefaultNamespaces: namespaces},
		NewClient:               uncached,
		Metrics:                 server.Options{BindAddress: "0"},
		HealthProbeBindAddress:  ":8081",
		LeaderElection:          elects,
		LeaderElectionID:        "stand-in.apps.wandb.com",
		LeaderElectionNamespace: os.Getenv("OPERATOR_NAMESPACE"),
	})
	if err != nil {
		return err
	}
	for _, add := range []func(string, healthz.Checker) error{manager.AddHealthzCheck, manager.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	settings := handler.EnqueueRequestsFromMapFunc(ownerOfSettings)
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	err = ctrl.NewControllerManagedBy(manager).
		For(resource(), changed).
		WatchesMetadata(secret("", ""), settings, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Complete(&reconciler{client: manager.GetClient()})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}

// uncached is a client whose decisions rest on what the API server says, not on what was heard last.
func uncached(config *rest.Config, options client.Options) (client.Client, error) {
	options.Cache = nil
	return client.New(config, options)
}
