package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"time"
)

const (
	certificates = "/apis/cert-manager.io/v1/certificates"
	inject       = "cert-manager.io/inject-ca-from"
)

// certify issues what is asked for, each certificate by an authority of its own, and hands the authorities out.
func certify() {
	wanted, err := list(certificates)
	if err != nil {
		say("ERROR", "cannot list certificates", err)
		return
	}
	for _, item := range wanted {
		if err := issue(item); err != nil {
			say("ERROR", "cannot issue "+text(item, "metadata.name"), err)
		}
	}
	if os.Getenv("CA_INJECTOR") == "off" {
		return
	}
	admission := "/apis/admissionregistration.k8s.io/v1/"
	for _, path := range []string{admission + "mutatingwebhookconfigurations", admission + "validatingwebhookconfigurations"} {
		items, err := list(path)
		for _, item := range items {
			hooks, _ := item["webhooks"].([]any)
			if bundle := authority(item); bundle != "" && !trusts(hooks, bundle) {
				_, err = change(path+"/"+text(item, "metadata.name"), object{"webhooks": hooks})
			}
		}
		if err != nil {
			say("ERROR", "cannot inject", err)
		}
	}
	kinds, err := list(definitions)
	for _, item := range kinds {
		bundle, place := authority(item), "spec.conversion.webhook.clientConfig"
		if at(item, place) != nil && bundle != "" && text(item, place+".caBundle") != bundle {
			change := object{}
			put(change, place+".caBundle", bundle)
			_, err = ask("PATCH", definitions+"/"+text(item, "metadata.name"), merge, change)
		}
	}
	if err != nil {
		say("ERROR", "cannot inject", err)
	}
}

// authority is the CA (base64) of the certificate that the annotation of `item` names; empty if there is none yet.
func authority(item object) string {
	annotations, _ := at(item, "metadata.annotations").(object)
	named, _ := annotations[inject].(string)
	namespace, name, found := strings.Cut(named, "/")
	if !found {
		return ""
	}
	certificate, err := get("/apis/cert-manager.io/v1/namespaces/" + namespace + "/certificates/" + name)
	if err != nil || certificate == nil {
		return ""
	}
	secret, err := get("/api/v1/namespaces/" + namespace + "/secrets/" + text(certificate, "spec.secretName"))
	if err != nil || secret == nil {
		return ""
	}
	data, _ := secret["data"].(object)
	bundle, _ := data["ca.crt"].(string)
	return bundle
}

// trusts puts the bundle into webhooks; whether it was there.
func trusts(hooks []any, bundle string) bool {
	all := true
	for _, hook := range hooks {
		all = all && text(hook, "clientConfig.caBundle") == bundle
		put(hook.(object), "clientConfig.caBundle", bundle)
	}
	return all
}

func issue(item object) error {
	namespace := text(item, "metadata.namespace")
	path := "/api/v1/namespaces/" + namespace + "/secrets/"
	held, err := get(path + text(item, "spec.secretName"))
	if err != nil {
		return err
	}
	if held == nil {
		secret, err := pair(item)
		if err != nil {
			return err
		}
		if _, err = ask("POST", path, "", secret); err != nil {
			return err
		}
	}
	if conditions, _ := at(item, "status.conditions").([]any); len(conditions) > 0 {
		return nil
	}
	ready := object{"type": "Ready", "status": "True", "reason": "Ready", "message": "Certificate is up to date"}
	ready["lastTransitionTime"] = time.Now().UTC().Format(time.RFC3339)
	status := object{"status": object{"conditions": []any{ready}}}
	_, err = change("/apis/cert-manager.io/v1/namespaces/"+namespace+"/certificates/"+text(item, "metadata.name")+"/status", status)
	return err
}

func pair(item object) (object, error) {
	names := []string{}
	asked, _ := at(item, "spec.dnsNames").([]any)
	for _, name := range asked {
		names = append(names, name.(string))
	}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, err
	}
	return object{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": object{"name": text(item, "spec.secretName")},
		"data": object{
			"tls.crt": encoded("CERTIFICATE", certificate), "tls.key": encoded("PRIVATE KEY", key),
			"ca.crt": encoded("CERTIFICATE", authority),
		},
	}, nil
}

func encoded(kind string, content []byte) string {
	var made bytes.Buffer
	pem.Encode(&made, &pem.Block{Type: kind, Bytes: content})
	return base64.StdEncoding.EncodeToString(made.Bytes())
}
