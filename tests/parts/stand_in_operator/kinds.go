package main

import (
	"os"
	"strings"
)

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// installKinds is the hook of the chart: it applies the definitions of the operator's kinds.
func installKinds(words []string) {
	open := object{"openAPIV3Schema": object{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
	version := func(name string, storage bool) object {
		return object{
			"name": name, "served": true, "storage": storage, "schema": open, "subresources": object{"status": object{}},
		}
	}
	service := object{
		"name": flag("webhook-service-name", words), "namespace": flag("webhook-service-namespace", words),
		"path": "/convert", "port": 443,
	}
	kind := func(name string, versions ...object) object {
		plural := map[string]string{"Application": "applications", "WeightsAndBiases": "weightsandbiases"}[name]
		names := object{"kind": name, "listKind": name + "List", "plural": plural, "singular": strings.ToLower(name)}
		return object{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": object{
				"name":        plural + ".apps.wandb.com",
				"annotations": object{inject: flag("cert-inject-reference", words)},
			},
			"spec": object{"group": "apps.wandb.com", "scope": "Namespaced", "names": names, "versions": versions},
		}
	}
	platform := kind("WeightsAndBiases", version("v1", false), version("v2", true))
	put(platform, "spec.conversion", object{
		"strategy": "Webhook",
		"webhook":  object{"conversionReviewVersions": []string{"v1"}, "clientConfig": object{"service": service}},
	})
	for _, item := range []object{kind("Application", version("v2", true)), platform} {
		path := definitions + "/" + text(item, "metadata.name") + "?fieldManager=wandb-crd-installer&force=true"
		_, err := ask("PATCH", path, ssa, item)
		must(err)
	}
	say("INFO", "applied the definitions", nil)
	os.Exit(0)
}
