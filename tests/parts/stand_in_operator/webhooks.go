package main

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

const (
	legacy  = "legacy.operator.wandb.com/"
	version = "apps.wandb.com/v2"
)

// serveWebhooks answers the API server, with the certificate that cert-manager has put there.
func serveWebhooks(folder string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/mutate-apps-wandb-com-v2-weightsandbiases", admission(defaulted))
	mux.HandleFunc("/validate-apps-wandb-com-v2-weightsandbiases", admission(validated))
	mux.HandleFunc("/convert", converted)
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key"))
		return &pair, err
	}
	server := &http.Server{Addr: ":9443", Handler: mux, TLSConfig: &tls.Config{GetCertificate: certificate}, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		health := http.NewServeMux()
		health.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { answer.WriteHeader(200) })
		must((&http.Server{Addr: ":8081", Handler: health, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
	}()
	must(server.ListenAndServeTLS("", ""))
}

// admission reads and writes reviews around what `look` does to an object.
func admission(look func(object) error) http.HandlerFunc {
	return func(answer http.ResponseWriter, asked *http.Request) {
		review := object{}
		if err := json.NewDecoder(asked.Body).Decode(&review); err != nil {
			answer.WriteHeader(400)
			return
		}
		item, _ := at(review, "request.object").(object)
		said := object{"uid": at(review, "request.uid"), "allowed": true}
		if err := look(item); err != nil {
			said["allowed"] = false
			said["status"] = object{"code": 422, "message": err.Error()}
		} else if strings.HasPrefix(asked.URL.Path, "/mutate") {
			patch, _ := json.Marshal([]object{{"op": "add", "path": "/spec", "value": item["spec"]}})
			said["patchType"], said["patch"] = "JSONPatch", base64.StdEncoding.EncodeToString(patch)
		}
		send(answer, object{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said})
	}
}

func send(answer http.ResponseWriter, what object) {
	answer.Header().Set("Content-Type", "application/json")
	json.NewEncoder(answer).Encode(what)
}

var services = map[string][2]string{
	"mysql":       {"managedMysql", "externalMysql"},
	"redis":       {"managedRedis", "externalRedis"},
	"objectStore": {"managedObjectStore", "externalObjectStore"},
	"clickhouse":  {"managedClickhouse", "externalClickhouse"},
}

func defaulted(item object) error {
	defaults := object{"size": "dev", "retentionPolicy.onDelete": "detach"}
	for name, kinds := range services {
		if at(item, "spec."+name+".default."+kinds[1]) == nil {
			defaults[name+".default."+kinds[0]+".name"] = text(item, "metadata.name") + "-" + strings.ToLower(name)
		}
	}
	defaults["kafka.managedKafka.name"] = text(item, "metadata.name") + "-kafka"
	defaults["wandb.manifestRepository"] = repositoryFor(text(item, "spec.global.imageRegistry"))
	for path, value := range defaults {
		if at(item, "spec."+path) == nil || at(item, "spec."+path) == "" {
			put(item, "spec."+path, value)
		}
	}
	if place := text(item, "spec.wandb.manifestRepository"); !strings.Contains(place, "://") {
		put(item, "spec.wandb.manifestRepository", "oci://"+place)
	}
	return nil
}

func repositoryFor(registry string) string {
	if registry == "" {
		return public
	}
	return "oci://" + registry + "/wandb/server-manifest"
}

func validated(item object) error {
	wanted := text(item, "spec.wandb.version")
	if wanted == "" || wanted == "latest" || strings.TrimSpace(wanted) != wanted {
		return fmt.Errorf("spec.wandb.version: Invalid value: %q: must be a pinned version", wanted)
	}
	if text(item, "spec.wandb.hostname") == "" {
		return fmt.Errorf("spec.wandb.hostname: Required value")
	}
	return nil
}

// converted turns objects of one version into the other; one that cannot be turned fails all of a request.
func converted(answer http.ResponseWriter, asked *http.Request) {
	review := object{}
	if err := json.NewDecoder(asked.Body).Decode(&review); err != nil {
		answer.WriteHeader(400)
		return
	}
	wanted := text(review, "request.desiredAPIVersion")
	items, _ := at(review, "request.objects").([]any)
	said := object{"uid": at(review, "request.uid"), "result": object{"status": "Success"}}
	made := []any{}
	for _, item := range items {
		turned, err := convert(item.(object), wanted)
		if err != nil {
			said["result"] = object{"status": "Failed", "message": err.Error()}
			break
		}
		made = append(made, turned)
	}
	said["convertedObjects"] = made
	send(answer, object{"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": said})
}

func convert(item object, wanted string) (object, error) {
	if text(item, "apiVersion") == wanted {
		return item, nil
	}
	item["apiVersion"] = wanted
	annotations, _ := at(item, "metadata.annotations").(object)
	if annotations == nil {
		annotations = object{}
	}
	if wanted != version {
		spec := object{"chart": object{}, "values": object{}}
		for _, part := range []string{"chart", "values"} {
			held := object{}
			if raw, _ := annotations[legacy+"v1-"+part].(string); raw != "" && json.Unmarshal([]byte(raw), &held) == nil {
				spec[part] = held
			}
		}
		item["spec"], item["status"] = spec, object{}
		return item, nil
	}
	values, err := effective(item)
	if err != nil {
		return nil, err
	}
	for _, part := range []string{"chart", "values"} {
		raw, _ := json.Marshal(at(item, "spec."+part))
		annotations[legacy+"v1-"+part] = string(raw)
	}
	spec := object{"wandb": object{"hostname": text(values, "global.host"), "license": text(values, "global.license")}}
	tag := text(values, "app.image.tag")
	if tag == "" {
		tag = text(values, "api.image.tag")
	}
	if tag != "" {
		// Since the middle of 2026 the applications of the manifest decide what of the values counts.
		if _, err := fromRegistry(repositoryFor(text(values, "global.imageRegistry")), tag, ""); err != nil {
			return nil, fmt.Errorf("conversion of %s: %w", text(item, "metadata.name"), err)
		}
		put(spec, "wandb.version", tag)
	}
	if size := text(values, "global.size"); size != "" {
		spec["size"] = size
	}
	for from, to := range map[string]string{"mysql": "mysql", "redis": "redis", "bucket": "bucket", "clickhouse": "clickhouse"} {
		if held, _ := at(values, "global."+from).(object); len(held) > 0 {
			raw, _ := json.Marshal(held)
			annotations[legacy+to+"-pending"] = string(raw)
		}
	}
	put(item, "metadata.annotations", annotations)
	item["spec"], item["status"] = spec, object{}
	return item, nil
}

// effective are the values that the controller of v1 last applied, else those of the resource.
func effective(item object) (object, error) {
	secret, err := get(secrets(item, text(item, "metadata.name")+"-spec-active"))
	if err != nil {
		return nil, err
	}
	data, _ := secret["data"].(object)
	if encoded, _ := data["values"].(string); encoded != "" {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, err
		}
		values := object{}
		return values, json.Unmarshal(raw, &values)
	}
	values, _ := at(item, "spec.values").(object)
	return values, nil
}
