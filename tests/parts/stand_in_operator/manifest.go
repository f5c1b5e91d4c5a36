package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

const public = "oci://us-docker.pkg.dev/wandb-production/public/wandb/server-manifest"

var (
	fetched  = map[string]object{}
	accepted = strings.Join([]string{
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
		"application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json",
	}, ", ")
)

// manifest is what a version consists of; what was fetched once is kept.
func manifest(resource object) (object, error) {
	place, version := text(resource, "spec.wandb.manifestRepository"), text(resource, "spec.wandb.version")
	if folder, isFile := strings.CutPrefix(place, "file://"); isFile {
		return fromFiles(folder, version)
	}
	user, err := login(resource, place)
	if err != nil {
		return nil, err
	}
	return fromRegistry(place, version, user)
}

func fromRegistry(place, version, user string) (object, error) {
	if held := fetched[place+":"+version]; held != nil {
		return held, nil
	}
	if strings.HasPrefix(place, "http://") {
		return nil, errors.New("http manifest not implemented")
	}
	host, repository, _ := strings.Cut(strings.TrimPrefix(place, "oci://"), "/")
	where := "https://" + host + "/v2/" + repository
	found := object{}
	if err := download(where+"/manifests/"+version, user, &found); err != nil {
		return nil, err
	}
	if children, _ := found["manifests"].([]any); len(children) > 0 {
		digest := text(children[0], "digest")
		found = object{}
		if err := download(where+"/manifests/"+digest, user, &found); err != nil {
			return nil, err
		}
	}
	if err := download(where+"/blobs/"+text(found, "config.digest"), user, nil); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	layers, _ := found["layers"].([]any)
	for _, layer := range layers {
		var content bytes.Buffer
		if err := download(where+"/blobs/"+text(layer, "digest"), user, &content); err != nil {
			return nil, err
		}
		if err := unpack(content.Bytes(), files); err != nil {
			return nil, err
		}
	}
	made, err := merged(files)
	if err == nil {
		fetched[place+":"+version] = made
	}
	return made, err
}

func download(url, user string, into any) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", accepted)
	request.Header.Set("User-Agent", "wandb-operator")
	if user != "" {
		request.Header.Set("Authorization", "Basic "+user)
	}
	// The default client trusts what SSL_CERT_DIR names.
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == 404:
		return fmt.Errorf("%s: not found", url)
	case answer.StatusCode == 401 && user == "":
		return fmt.Errorf("%s: basic credential not found", url)
	case answer.StatusCode > 299:
		return fmt.Errorf("GET %q: response status code %s", url, strings.ToLower(answer.Status))
	}
	switch target := into.(type) {
	case nil:
		_, err = io.Copy(io.Discard, answer.Body)
	case *bytes.Buffer:
		_, err = target.ReadFrom(answer.Body)
	default:
		err = json.NewDecoder(answer.Body).Decode(target)
	}
	return err
}

// unpack takes the .yaml files of a tar, plain or with gzip; what is neither has none.
func unpack(content []byte, files map[string][]byte) error {
	var source io.Reader = bytes.NewReader(content)
	if unzipped, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
		source = unzipped
	}
	archive := tar.NewReader(source)
	for {
		header, err := archive.Next()
		if err != nil {
			return nil
		}
		if strings.HasSuffix(header.Name, ".yaml") {
			if files[filepath.Base(header.Name)], err = io.ReadAll(archive); err != nil {
				return err
			}
		}
	}
}

func fromFiles(folder, version string) (object, error) {
	paths, _ := filepath.Glob(filepath.Join(folder, version, "*.yaml"))
	if single := filepath.Join(folder, version+".yaml"); len(paths) == 0 {
		paths = []string{single}
	}
	files := map[string][]byte{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("failed to locate manifest for version %s: %w", version, err)
		}
		files[filepath.Base(path)] = content
	}
	return merged(files)
}

// merged is all files over each other; the tests' own are JSON, which is YAML.
func merged(files map[string][]byte) (object, error) {
	if len(files) == 0 {
		return nil, errors.New("no manifest yaml files found")
	}
	names, made := []string{}, object{}
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := json.Unmarshal(files[name], &made); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return made, nil
}

// login is who the operator is to the registry, by the pull secrets of the resource.
func login(resource object, place string) (string, error) {
	host, _, _ := strings.Cut(strings.TrimPrefix(place, "oci://"), "/")
	named, _ := at(resource, "spec.global.imagePullSecrets").([]any)
	for _, item := range named {
		where := text(resource, "metadata.namespace") + "/" + text(item, "name")
		secret, err := get(secrets(resource, text(item, "name")))
		if err != nil {
			return "", err
		}
		if secret == nil {
			return "", fmt.Errorf("image pull secret %s not found", where)
		}
		if kind := text(secret, "type"); kind != "kubernetes.io/dockerconfigjson" {
			return "", fmt.Errorf("image pull secret %s has type %q, want \"kubernetes.io/dockerconfigjson\"", where, kind)
		}
		data, _ := secret["data"].(object)
		raw, err := base64.StdEncoding.DecodeString(data[".dockerconfigjson"].(string))
		if err != nil {
			return "", err
		}
		held := object{}
		if err := json.Unmarshal(raw, &held); err != nil {
			return "", err
		}
		hosts, _ := held["auths"].(object)
		if entry := hosts[host]; entry != nil {
			if auth := text(entry, "auth"); auth != "" {
				return auth, nil
			}
			pair := text(entry, "username") + ":" + text(entry, "password")
			return base64.StdEncoding.EncodeToString([]byte(pair)), nil
		}
	}
	return "", nil
}

// image is the name of an image of the manifest behind the prefix of the resource.
func image(resource object, named any) string {
	parts := []string{}
	for _, part := range []string{text(resource, "spec.global.imageRegistry"), text(named, "registry"), text(named, "repository")} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	name := strings.Join(parts, "/")
	if digest := text(named, "digest"); digest != "" {
		return name + "@" + digest
	}
	if tag := text(named, "tag"); tag != "" {
		return name + ":" + tag
	}
	return name + "/"
}
