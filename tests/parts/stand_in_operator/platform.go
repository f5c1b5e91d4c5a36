package main

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

const finalizer = "wandb.apps.wandb.com/cleanup"

func namespaced(item object) string { return "namespaces/" + text(item, "metadata.namespace") }

func secrets(item object, name string) string {
	return "/api/v1/" + namespaced(item) + "/secrets/" + name
}

func workloads(item object, kind, name string) string {
	return "/apis/apps/v1/" + namespaced(item) + "/" + strings.ToLower(kind) + "s/" + name
}

func jobs(item object, name string) string {
	return "/apis/batch/v1/" + namespaced(item) + "/jobs/" + name
}

func ours(item object, plural, name string) string {
	return "/apis/" + version + "/" + namespaced(item) + "/" + plural + "/" + name
}

func reconcileAll() {
	items, err := list("/apis/" + version + "/weightsandbiases")
	if err != nil {
		// One resource that cannot be converted hides all of them.
		say("ERROR", "cannot list resources", err)
		return
	}
	for _, item := range items {
		item["apiVersion"], item["kind"] = version, "WeightsAndBiases"
		if err := reconcile(item); err != nil {
			say("ERROR", "Reconciler error", fmt.Errorf("%s/%s: %w", text(item, "metadata.namespace"), text(item, "metadata.name"), err))
		}
	}
}

func reconcile(item object) error {
	self := ours(item, "weightsandbiases", text(item, "metadata.name"))
	if at(item, "metadata.deletionTimestamp") != nil {
		return leave(item, self)
	}
	finalizers, _ := at(item, "metadata.finalizers").([]any)
	if !holds(finalizers, finalizer) {
		_, err := change(self, object{"metadata": object{"finalizers": append(finalizers, finalizer)}})
		return err
	}
	if moved, err := settle(item, self); moved || err != nil {
		return err
	}
	found, err := manifest(item)
	if os.Getenv("MANIFEST_CONDITION") == "1" {
		condition(item, "ManifestCompatible", err == nil, map[bool]string{true: "SupportedManifestVersion", false: "ManifestUnavailable"}[err == nil], err)
	}
	if err != nil {
		if os.Getenv("MANIFEST_CONDITION") == "1" {
			condition(item, "Ready", false, "ManifestUnavailable", err)
			return errors.Join(err, keep(item, self))
		}
		return err
	}
	blocked, err := serve(item, found)
	if err != nil {
		return err
	}
	if len(blocked) > 0 {
		condition(item, "Ready", false, "DependenciesNotReady", errors.New("dependencies not ready: "+strings.Join(blocked, ", ")))
		return keep(item, self)
	}
	done, err := migrate(item, found)
	if err != nil {
		return err
	}
	if !done {
		reason := "MigrationPending"
		said := fmt.Sprintf("migration phase is %s for version %s", text(item, "status.wandb.migration.phase"), text(item, "status.wandb.migration.version"))
		if text(item, "status.wandb.migration.phase") == "Failed" {
			reason, said = "MigrationFailed", "migration jobs failed: "+text(item, "status.wandb.migration.failed")
		}
		condition(item, "Ready", false, reason, errors.New(said))
		return keep(item, self)
	}
	waiting, err := run(item, found)
	if err != nil {
		return err
	}
	put(item, "status.observedGeneration", at(item, "metadata.generation"))
	if len(waiting) > 0 {
		condition(item, "Ready", false, "ApplicationsNotReady", errors.New("waiting for application deployments: "+strings.Join(waiting, ", ")))
	} else {
		tidy(item)
		condition(item, "Ready", true, "ReconciliationSucceeded", errors.New("all dependencies, migrations, and application deployments are ready"))
	}
	return keep(item, self)
}

func holds(items []any, wanted string) bool {
	for _, item := range items {
		if item == wanted {
			return true
		}
	}
	return false
}

func condition(item object, kind string, good bool, reason string, said error) {
	status := map[bool]string{true: "True", false: "False"}[good]
	message := ""
	if said != nil {
		message = said.Error()
	}
	held, _ := at(item, "status.conditions").([]any)
	made := object{
		"type": kind, "status": status, "reason": reason, "message": message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "observedGeneration": at(item, "metadata.generation"),
	}
	kept := []any{made}
	for _, each := range held {
		if text(each, "type") != kind {
			kept = append(kept, each)
		} else if text(each, "status") == status {
			made["lastTransitionTime"] = text(each, "lastTransitionTime")
		}
	}
	put(item, "status.conditions", kept)
	if kind == "Ready" {
		put(item, "status.ready", good)
	}
}

func keep(item object, self string) error {
	_, err := change(self+"/status", object{"status": item["status"]})
	return err
}

// settle makes Secrets of what a conversion has left in annotations; whether the resource has changed.
func settle(item object, self string) (bool, error) {
	annotations, _ := at(item, "metadata.annotations").(object)
	spec, gone := object{}, object{}
	for kind, field := range map[string]string{
		"mysql": "mysql.default.externalMysql", "redis": "redis.default.externalRedis",
		"bucket": "objectStore.default.externalObjectStore", "clickhouse": "clickhouse.default.externalClickhouse",
	} {
		raw, _ := annotations[legacy+kind+"-pending"].(string)
		if raw == "" {
			continue
		}
		name := text(item, "metadata.name") + "-" + kind + "-converted"
		held, err := get(secrets(item, name))
		if err == nil && held == nil {
			_, err = ask("POST", secrets(item, ""), "", object{
				"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": name, "ownerReferences": owners(item)},
				"stringData": object{"pending": raw},
			})
		}
		if err != nil {
			return false, err
		}
		put(spec, field+".host", object{"name": name, "key": "pending"})
		if below, above := strings.Split(field, ".")[0], services[strings.Split(field, ".")[0]]; above[0] != "" {
			put(spec, below+".default."+above[0], nil)
		}
		gone[legacy+kind+"-pending"] = nil
	}
	if len(gone) == 0 {
		return false, nil
	}
	_, err := change(self, object{"spec": spec, "metadata": object{"annotations": gone}})
	return true, err
}

func owners(item object) []any {
	return []any{object{
		"apiVersion": text(item, "apiVersion"), "kind": text(item, "kind"), "name": text(item, "metadata.name"),
		"uid": text(item, "metadata.uid"),
	}}
}

type part struct{ service, name, kind, key string }

// managed are the workloads of services that the operator runs itself, with the keys of their images.
func managed(item object) []part {
	name := text(item, "metadata.name")
	parts := []part{
		{"kafka", name + "-kafka", "Deployment", "kafka.images.bufstream"},
		{"kafka", name + "-kafka-etcd", "StatefulSet", "kafka.images.etcd"},
	}
	for service, found := range map[string][]part{
		"mysql":       {{"mysql/default", name + "-mysql", "StatefulSet", "mysql.default.images.mysql"}},
		"redis":       {{"redis/default", name + "-redis", "StatefulSet", "redis.default.images.standalone"}},
		"objectStore": {{"objectStore/default", name + "-seaweed", "StatefulSet", "bucket.default.images.seaweedfs"}},
		"clickhouse": {
			{"clickhouse/default", name + "-clickhouse", "StatefulSet", "clickhouse.default.images.server"},
			{"clickhouse/default", name + "-keeper", "StatefulSet", "clickhouseKeeper.default.images.keeper"},
		},
	} {
		if at(item, "spec."+service+".default."+services[service][1]) == nil {
			parts = append(parts, found...)
		}
	}
	return parts
}

// serve brings the services about; those that are not ready yet.
func serve(item, found object) ([]string, error) {
	waiting := map[string]bool{}
	for _, each := range managed(item) {
		container := object{"name": "service", "image": image(item, at(found, each.key))}
		if each.key == "kafka.images.bufstream" && at(item, "spec.objectStore.default.externalObjectStore") == nil {
			// Its bucket has to be there first.
			container["env"] = []object{{"name": "BUCKET_ENSURE", "value": image(item, at(found, "kafka.images.bucketEnsure"))}}
		}
		ready, err := workload(item, each.kind, each.name, owners(item), container)
		if err != nil {
			return nil, err
		}
		if !ready {
			waiting[each.service] = true
		}
	}
	for service, kinds := range services {
		fields, _ := at(item, "spec."+service+".default."+kinds[1]).(object)
		for field, selector := range fields {
			if err := resolve(item, selector); err != nil {
				say("ERROR", "failed to resolve external "+strings.ToLower(service)+" fields", fmt.Errorf("field %q: %w", field, err))
				waiting[service+"/default"] = true
			}
		}
	}
	blocked := []string{}
	for name := range waiting {
		blocked = append(blocked, name)
	}
	sort.Strings(blocked)
	return blocked, nil
}

// resolve sees that the key of a Secret is there, however the resource spells the reference.
func resolve(item object, selector any) error {
	if held := at(selector, "value"); held != nil {
		return nil
	}
	if held, found := at(selector, "valueFrom.secretKeyRef").(object); found {
		selector = held
	}
	name, key := text(selector, "name"), text(selector, "key")
	secret, err := get(secrets(item, name))
	if err != nil {
		return err
	}
	if secret == nil {
		return fmt.Errorf("secret %s/%s not found", text(item, "metadata.namespace"), name)
	}
	data, _ := secret["data"].(object)
	if data[key] == nil && at(selector, "optional") != true {
		return fmt.Errorf("key %q not found in secret %s/%s", key, text(item, "metadata.namespace"), name)
	}
	return nil
}

// workload applies a Deployment or a StatefulSet; whether it is rolled out.
func workload(item object, kind, name string, owner []any, containers ...object) (bool, error) {
	labels := object{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": text(item, "metadata.name")}
	spec := object{
		"replicas": 1, "selector": object{"matchLabels": labels},
		"template": object{"metadata": object{"labels": labels}, "spec": pod(item, containers)},
	}
	if kind == "StatefulSet" {
		spec["serviceName"] = name
	}
	made, err := apply(workloads(item, kind, name), object{
		"apiVersion": "apps/v1", "kind": kind, "metadata": object{"name": name, "ownerReferences": owner}, "spec": spec,
	})
	if err != nil {
		return false, err
	}
	seen := number(made, "status.observedGeneration") == number(made, "metadata.generation")
	return seen && number(made, "status.readyReplicas") == 1 && number(made, "status.updatedReplicas") == 1, nil
}

func pod(item object, containers []object) object {
	return object{
		"containers": containers, "terminationGracePeriodSeconds": 1,
		"imagePullSecrets": at(item, "spec.global.imagePullSecrets"),
	}
}

// migrate runs the Jobs of the migrations; whether all have succeeded for the version that is wanted.
func migrate(item, found object) (bool, error) {
	wanted := text(item, "spec.wandb.version")
	tasks, _ := at(found, "migrations").(object)
	ready := at(item, "status.wandb.migration.ready") == true
	if ready && text(item, "status.wandb.migration.version") == wanted {
		for name := range tasks {
			if err := remove(jobs(item, text(item, "metadata.name")+"-"+name)); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	state := object{"version": wanted, "ready": false, "phase": "Running", "reason": "Running", "failed": nil}
	put(item, "status.wandb.migration", state)
	done, failed := true, []string{}
	for name, task := range tasks {
		called := text(item, "metadata.name") + "-" + name
		job, err := get(jobs(item, called))
		if err == nil && job == nil {
			done = false
			_, err = ask("POST", jobs(item, ""), "", object{
				"apiVersion": "batch/v1", "kind": "Job",
				"metadata": object{"name": called, "ownerReferences": owners(item), "labels": object{
					"app.kubernetes.io/managed-by": "wandb-operator", "app.kubernetes.io/instance": text(item, "metadata.name"),
					"app.kubernetes.io/component": "migration",
				}},
				"spec": object{"backoffLimit": 0, "template": object{"spec": migration(item, task)}},
			})
		}
		if err != nil {
			return false, err
		}
		if number(job, "status.succeeded") > 0 {
			continue
		}
		done = false
		conditions, _ := at(job, "status.conditions").([]any)
		for _, each := range conditions {
			if text(each, "type") == "Failed" && text(each, "status") == "True" {
				failed = append(failed, called+": "+text(each, "message"))
			}
		}
	}
	if len(failed) > 0 {
		sort.Strings(failed)
		state["phase"], state["reason"], state["failed"] = "Failed", "Failed", strings.Join(failed, "; ")
	}
	if done {
		state["ready"], state["phase"], state["reason"], state["lastSuccessVersion"] = true, "Succeeded", "Complete", wanted
	}
	return done, nil
}

func migration(item object, task any) object {
	container := object{"name": "migrate", "image": image(item, at(task, "image"))}
	for _, key := range []string{"command", "args"} {
		if words := at(task, key); words != nil {
			container[key] = words
		}
	}
	made := pod(item, []object{container})
	made["restartPolicy"] = "Never"
	return made
}

// run brings the applications about; those that are not ready yet.
func run(item, found object) ([]string, error) {
	wanted, _ := at(found, "applications").(object)
	waiting, sink := []string{}, "https://api.wandb.ai/email/dispatch"
	if at(item, "spec.wandb.notifications.email") != nil {
		sink = "set"
	}
	for name, application := range wanted {
		made, err := apply(ours(item, "applications", name), object{
			"apiVersion": version, "kind": "Application",
			"metadata": object{"name": name, "ownerReferences": owners(item)}, "spec": object{"kind": "Deployment"},
		})
		if err != nil {
			return nil, err
		}
		environment := []any{object{"name": "GORILLA_EMAIL_SINK", "value": sink}}
		if further, _ := at(item, "spec.wandb.legacyOverrides.global.env").([]any); further != nil {
			environment = append(environment, further...)
		}
		container := object{"name": name, "image": image(item, at(application, "image")), "env": environment}
		ready, err := workload(item, "Deployment", name, owners(made), container)
		if err != nil {
			return nil, err
		}
		if !ready {
			waiting = append(waiting, name)
		}
		if ports := at(application, "service.ports"); ports != nil {
			_, err := apply("/api/v1/"+namespaced(item)+"/services/"+name, object{
				"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "ownerReferences": owners(made)},
				"spec": object{"selector": object{"app.kubernetes.io/name": name}, "ports": ports},
			})
			if err != nil {
				return nil, err
			}
		}
	}
	held, err := list(ours(item, "applications", ""))
	if err != nil {
		return nil, err
	}
	for _, application := range held {
		if wanted[text(application, "metadata.name")] == nil {
			if err := remove(ours(item, "applications", text(application, "metadata.name"))); err != nil {
				return nil, err
			}
		}
	}
	sort.Strings(waiting)
	return waiting, nil
}

// tidy removes what v1 has left and v2 knows of.
func tidy(item object) {
	for _, name := range []string{"app", "console", "executor", "parquet", "weave"} {
		remove(workloads(item, "Deployment", text(item, "metadata.name")+"-"+name+"-bc"))
	}
}

// leave serves the finalizer: with detach the services stay, but for ClickHouse's Keeper.
func leave(item object, self string) error {
	finalizers, _ := at(item, "metadata.finalizers").([]any)
	rest := []any{}
	for _, each := range finalizers {
		if each != finalizer {
			rest = append(rest, each)
		}
	}
	if len(rest) == len(finalizers) {
		return nil
	}
	if text(item, "spec.retentionPolicy.onDelete") != "purge" {
		for _, each := range managed(item) {
			if strings.HasSuffix(each.name, "-keeper") {
				continue
			}
			if _, err := change(workloads(item, each.kind, each.name), object{"metadata": object{"ownerReferences": nil}}); err != nil {
				return err
			}
		}
	}
	_, err := change(self, object{"metadata": object{"finalizers": rest}})
	return err
}
