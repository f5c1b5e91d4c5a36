package main

import (
	"errors"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

const (
	hookTimeout    = 30 * time.Second
	removalTimeout = 10 * time.Minute
	keptRevisions  = 10
)

func helm(namespace string) (*action.Configuration, error) {
	access := genericclioptions.NewConfigFlags(true)
	access.Namespace = &namespace
	found := action.NewConfiguration()
	return found, found.Init(access, namespace, "secret")
}

// installOrUpgrade has Helm apply the chart, and waits for nothing but its hooks. It does not hear of this program's end.
func installOrUpgrade(name, namespace string, chart *v2.Chart, values map[string]any) error {
	configuration, err := helm(namespace)
	if err != nil {
		return err
	}
	_, err = action.NewHistory(configuration).Run(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		install := action.NewInstall(configuration)
		install.ReleaseName, install.Namespace = name, namespace
		install.WaitStrategy, install.Timeout = kube.HookOnlyStrategy, hookTimeout
		install.ServerSideApply = false
		_, err = install.Run(chart, values)
		return err
	}
	if err != nil {
		return err
	}
	upgrade := action.NewUpgrade(configuration)
	upgrade.Namespace, upgrade.MaxHistory = namespace, keptRevisions
	upgrade.WaitStrategy, upgrade.Timeout = kube.HookOnlyStrategy, hookTimeout
	_, err = upgrade.Run(name, chart, values)
	return err
}

func uninstall(name, namespace string) error {
	configuration, err := helm(namespace)
	if err != nil {
		return err
	}
	removal := action.NewUninstall(configuration)
	removal.WaitStrategy, removal.Timeout = kube.LegacyStrategy, removalTimeout
	_, err = removal.Run(name)
	return err
}
