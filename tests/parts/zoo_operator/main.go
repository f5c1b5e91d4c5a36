// A small operator for tests: of each Zoo in its namespace it makes a Deployment, and tells of it in the status.
//
// A Zoo is ready (condition Ready) when all of its animals are available, for the generation that
// status.observedGeneration names. It has a finalizer, which the operator takes off once the Deployment is gone.
// A Zoo with `spec.closed: true` is never ready, and the operator's log says why.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	account   = "/var/run/secrets/kubernetes.io/serviceaccount/"
	finalizer = "demo.example/zoo"
	json7386  = "application/merge-patch+json"
	ssa       = "application/apply-patch+yaml"
)

type object = map[string]any

var (
	client    *http.Client
	base      string
	token     string
	namespace string
)

func main() {
	ca, err := os.ReadFile(account + "ca.crt")
	must(err)
	raw, err := os.ReadFile(account + "token")
	must(err)
	place, err := os.ReadFile(account + "namespace")
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client = &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
	base = "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	token, namespace = string(raw), string(place)
	for {
		list, code, err := ask("GET", zoos(""), "", nil)
		if err != nil || code != 200 {
			say("cannot list zoos", fmt.Sprint(code, " ", err))
		} else {
			for _, item := range list["items"].([]any) {
				if err := reconcile(item.(object)); err != nil {
					say("cannot reconcile", err.Error())
				}
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func reconcile(zoo object) error {
	metadata, spec := zoo["metadata"].(object), zoo["spec"].(object)
	name := metadata["name"].(string)
	if metadata["deletionTimestamp"] != nil {
		_, code, err := ask("DELETE", deployments(name), "", nil)
		if err != nil || code != 404 {
			return err
		}
		_, _, err = ask("PATCH", zoos(name), json7386, object{"metadata": object{"finalizers": nil}})
		return err
	}
	if _, _, err := ask("PATCH", zoos(name), json7386, object{"metadata": object{"finalizers": []string{finalizer}}}); err != nil {
		return err
	}
	if closed, _ := spec["closed"].(bool); closed {
		say("zoo "+name+": the animals are asleep", "closed for the season")
		return status(zoo, false, "Closed", "the zoo is closed")
	}
	labels := object{"zoo": name}
	_, code, err := ask("PATCH", deployments(name)+"?fieldManager=zoo&force=true", ssa, object{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name},
		"spec": object{
			"replicas": spec["animals"], "selector": object{"matchLabels": labels},
			"template": object{
				"metadata": object{"labels": labels},
				"spec": object{
					"terminationGracePeriodSeconds": 1,
					"containers":                    []object{{"name": "animal", "image": spec["image"]}},
				},
			},
		},
	})
	if err != nil || code > 201 {
		return fmt.Errorf("deployment %s: %d %v", name, code, err)
	}
	made, code, err := ask("GET", deployments(name), "", nil)
	if err != nil || code != 200 {
		return err
	}
	state, _ := made["status"].(object)
	current := made["metadata"].(object)["generation"] == state["observedGeneration"]
	wanted := spec["animals"]
	if current && state["availableReplicas"] == wanted && state["updatedReplicas"] == wanted {
		return status(zoo, true, "Open", "all animals are awake")
	}
	return status(zoo, false, "Opening", "animals are waking up")
}

func status(zoo object, ready bool, reason, message string) error {
	metadata := zoo["metadata"].(object)
	said := map[bool]string{true: "True", false: "False"}[ready]
	condition := object{
		"type": "Ready", "status": said, "reason": reason, "message": message,
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "observedGeneration": metadata["generation"],
	}
	change := object{"status": object{"observedGeneration": metadata["generation"], "conditions": []object{condition}, "phase": reason}}
	_, _, err := ask("PATCH", zoos(metadata["name"].(string))+"/status", json7386, change)
	return err
}

func zoos(name string) string {
	return "/apis/demo.example/v1/namespaces/" + namespace + "/zoos/" + name
}

func deployments(name string) string {
	return "/apis/apps/v1/namespaces/" + namespace + "/deployments/" + name
}

func ask(method, path, form string, body object) (object, int, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, 0, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequest(method, base+path, content)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if form != "" {
		request.Header.Set("Content-Type", form)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	found := object{}
	err = json.NewDecoder(answer.Body).Decode(&found)
	return found, answer.StatusCode, err
}

func say(message, reason string) {
	json.NewEncoder(os.Stdout).Encode(object{"level": "error", "msg": message, "error": reason})
}

func must(err error) {
	if err != nil {
		say("cannot start", err.Error())
		os.Exit(1)
	}
}
