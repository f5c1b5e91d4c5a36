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
	"strings"
	"time"
)

const (
	account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	merge   = "application/merge-patch+json"
	ssa     = "application/apply-patch+yaml"
)

type object = map[string]any

var (
	client *http.Client
	base   string
	token  string
	own    string
)

func connect() {
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
	token, own = string(raw), string(place)
}

// ask sends one request; an answer above 299 is an error but for 404, which gives nil.
func ask(method, path, form string, body any) (object, error) {
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequest(method, base+path, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if form == "" && body != nil {
		form = "application/json"
	}
	if form != "" {
		request.Header.Set("Content-Type", form)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == 404 {
		io.Copy(io.Discard, answer.Body)
		return nil, nil
	}
	found := object{}
	if err := json.NewDecoder(answer.Body).Decode(&found); err != nil {
		return nil, err
	}
	if answer.StatusCode > 299 {
		return nil, fmt.Errorf("%s %s: %d %v", method, path, answer.StatusCode, found["message"])
	}
	return found, nil
}

func get(path string) (object, error)              { return ask("GET", path, "", nil) }
func change(path string, what any) (object, error) { return ask("PATCH", path, merge, what) }

func list(path string) ([]object, error) {
	found, err := get(path)
	if err != nil || found == nil {
		return nil, err
	}
	items := []object{}
	for _, item := range at(found, "items").([]any) {
		items = append(items, item.(object))
	}
	return items, nil
}

// apply sets what `item` says, whoever has set it before.
func apply(path string, item object) (object, error) {
	made, err := ask("PATCH", path+"?fieldManager=manager&force=true", ssa, item)
	if err == nil && made == nil {
		return nil, fmt.Errorf("%s does not exist", path)
	}
	return made, err
}

func remove(path string) error {
	_, err := ask("DELETE", path, "", object{"propagationPolicy": "Background"})
	return err
}

// at is what stands at a dotted path of an object; nil if there is nothing.
func at(node any, path string) any {
	for _, key := range strings.Split(path, ".") {
		held, ok := node.(object)
		if !ok {
			return nil
		}
		node = held[key]
	}
	return node
}

func text(node any, path string) string {
	found, _ := at(node, path).(string)
	return found
}

func number(node any, path string) float64 {
	found, _ := at(node, path).(float64)
	return found
}

// put sets what stands at a dotted path.
func put(node object, path string, value any) {
	key, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		node[key] = value
		return
	}
	below, ok := node[key].(object)
	if !ok {
		below = object{}
		node[key] = below
	}
	put(below, rest, value)
}

func flag(name string, words []string) string {
	for _, word := range words {
		if value, found := strings.CutPrefix(word, "--"+name+"="); found {
			return value
		}
	}
	return ""
}

// say logs as the original does: logfmt, one line an entry.
func say(level, message string, err error) {
	line := fmt.Sprintf("time=%s level=%s msg=%q", time.Now().UTC().Format(time.RFC3339Nano), level, message)
	if err != nil {
		line += fmt.Sprintf(" err=%q", err.Error())
	}
	fmt.Fprintln(os.Stderr, line)
}

func must(err error) {
	if err != nil {
		say("ERROR", "cannot start", err)
		os.Exit(1)
	}
}
