package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/getter"
	"helm.sh/helm/v4/pkg/registry"
	"helm.sh/helm/v4/pkg/repo/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const scheme = "oci://"

// Where a chart is: a file of this pod (`path`), a registry (`url` with oci://), or a repository (`url` and `name`).
type source struct {
	Path             string      `json:"path,omitempty"`
	URL              string      `json:"url,omitempty"`
	Name             string      `json:"name,omitempty"`
	Version          string      `json:"version,omitempty"`
	RepoName         string      `json:"repoName,omitempty"`
	CredentialSecret *credential `json:"credentialSecret,omitempty"`
	PlainHTTP        bool        `json:"plainHTTP,omitempty"`
	Username         string      `json:"username"`
	Password         string      `json:"password"`
	Debug            bool        `json:"debug"`
}

type credential struct {
	Name        string `json:"name"`
	UsernameKey string `json:"usernameKey"`
	PasswordKey string `json:"passwordKey"`
}

// sourceOf reads spec.chart; nil if that has the form of no source.
func sourceOf(chart map[string]any) *source {
	found := &source{}
	text, err := json.Marshal(chart)
	if err != nil || json.Unmarshal(text, found) != nil {
		return nil
	}
	if found.Path != "" || found.isRegistry() || found.isRepository() {
		return found
	}
	return nil
}

func (s *source) isRegistry() bool {
	place, isOCI := strings.CutPrefix(s.URL, scheme)
	_, last, _ := strings.Cut(place, "/")
	return s.Path == "" && isOCI && (s.Version != "" || strings.ContainsAny(last, ":@"))
}

func (s *source) isRepository() bool {
	return s.Path == "" && s.URL != "" && !strings.HasPrefix(s.URL, scheme) && s.Name != ""
}

func (r *reconciler) fetch(ctx context.Context, from *source, namespace string) (*v2.Chart, error) {
	if from.Path != "" {
		return readFile(from.Path)
	}
	username, password, err := r.login(ctx, from, namespace)
	if err != nil {
		return nil, err
	}
	var archive []byte
	if from.isRegistry() {
		archive, err = pull(from, username, password)
	} else {
		archive, err = download(from, username, password)
	}
	if err != nil {
		return nil, err
	}
	return loader.LoadArchive(bytes.NewReader(archive))
}

// login is who we are to the chart's server. Keys that are not named are spelt out in the source from then on.
func (r *reconciler) login(ctx context.Context, from *source, namespace string) (string, string, error) {
	given := from.CredentialSecret
	if given == nil {
		return from.Username, from.Password, nil
	}
	if given.UsernameKey == "" {
		given.UsernameKey = "HELM_USERNAME"
	}
	if given.PasswordKey == "" {
		given.PasswordKey = "HELM_PASSWORD"
	}
	found := secret(namespace, given.Name)
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(found), found); err != nil {
		return "", "", err
	}
	return string(found.Data[given.UsernameKey]), string(found.Data[given.PasswordKey]), nil
}

// readFile loads an archive, or its base64 text.
func readFile(path string) (*v2.Chart, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content))); err == nil {
		content = plain
	}
	return loader.LoadArchive(bytes.NewReader(content))
}

func pull(from *source, username, password string) ([]byte, error) {
	options := []registry.ClientOption{}
	if username != "" {
		options = append(options, registry.ClientOptBasicAuth(username, password))
	}
	if from.PlainHTTP {
		options = append(options, registry.ClientOptPlainHTTP())
	}
	talker, err := registry.NewClient(options...)
	if err != nil {
		return nil, err
	}
	reference := strings.TrimPrefix(from.URL, scheme)
	if from.Version != "" && !strings.Contains(reference, "@") {
		reference += ":" + from.Version
	}
	pulled, err := talker.Pull(reference)
	if err != nil {
		return nil, fmt.Errorf("failed to pull chart from %s: %w", from.URL, err)
	}
	return pulled.Chart.Data, nil
}

func download(from *source, username, password string) ([]byte, error) {
	host := strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(from.URL)
	entry := &repo.Entry{Name: host, URL: from.URL, Username: username, Password: password}
	repository, err := repo.NewChartRepository(entry, getter.Getters())
	if err != nil {
		return nil, err
	}
	repository.CachePath = filepath.Join(os.Getenv("HELM_CACHE_HOME"), "repository")
	file, err := repository.DownloadIndexFile()
	if err != nil {
		return nil, fmt.Errorf("failed to download index file from %s: %w", from.URL, err)
	}
	index, err := repo.LoadIndexFile(file)
	if err != nil {
		return nil, err
	}
	version, err := index.Get(from.Name, from.Version)
	if err != nil {
		return nil, err
	}
	if len(version.URLs) == 0 {
		return nil, fmt.Errorf("%s %s: the index names no file", from.Name, from.Version)
	}
	address, err := repo.ResolveReferenceURL(from.URL, version.URLs[0])
	if err != nil {
		return nil, err
	}
	archive, err := repository.Client.Get(address, getter.WithBasicAuth(username, password))
	if err != nil {
		return nil, fmt.Errorf("failed to download %s: %w", address, err)
	}
	return archive.Bytes(), nil
}
