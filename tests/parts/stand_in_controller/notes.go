package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// noted is what is written in the Secret of the resource with this suffix; nil if there is none.
func (r *reconciler) noted(ctx context.Context, held *unstructured.Unstructured, suffix string) (*specification, error) {
	found := secret(held.GetNamespace(), held.GetName()+suffix)
	if err := r.client.Get(ctx, client.ObjectKeyFromObject(found), found); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	content := &specification{}
	for key, into := range map[string]any{"chart": &content.Chart, "values": &content.Values} {
		if err := json.Unmarshal(found.Data[key], into); err != nil {
			return nil, fmt.Errorf("%s: %w", found.Name, err)
		}
	}
	return content, nil
}

// note writes `content` into the Secret of the resource with this suffix.
func (r *reconciler) note(ctx context.Context, held *unstructured.Unstructured, suffix string, content specification) error {
	parts := map[string][]byte{}
	for key, part := range map[string]any{"chart": content.Chart, "values": content.Values, "metadata": nil} {
		text, err := json.Marshal(part)
		if err != nil {
			return err
		}
		parts[key] = text
	}
	kept := secret(held.GetNamespace(), held.GetName()+suffix)
	_, err := controllerutil.CreateOrUpdate(ctx, r.client, kept, func() error {
		kept.Data = parts
		return controllerutil.SetControllerReference(held, kept, r.client.Scheme())
	})
	return err
}

// same tells whether two specifications mean the same as JSON.
func same(one, other specification) bool {
	texts := [2]any{}
	for number, each := range []specification{one, other} {
		text, err := json.Marshal(each)
		if err != nil || json.Unmarshal(text, &texts[number]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(texts[0], texts[1])
}

// The kinds of objects that go with the resource, if they bear the labels that charts of W&B give them.
var owned = []schema.GroupVersionKind{
	{Group: "apps", Version: "v1", Kind: "DeploymentList"},
	{Group: "apps", Version: "v1", Kind: "StatefulSetList"},
	{Group: "apps", Version: "v1", Kind: "DaemonSetList"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "IngressList"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleList"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBindingList"},
	{Version: "v1", Kind: "ServiceList"},
	{Version: "v1", Kind: "ConfigMapList"},
	{Version: "v1", Kind: "SecretList"},
}

// own makes the resource an owner of the objects of its release, so that they go with it.
func (r *reconciler) own(ctx context.Context, held *unstructured.Unstructured) error {
	labels := client.MatchingLabels{
		"app.kubernetes.io/managed-by": "Helm",
		"app.kubernetes.io/instance":   held.GetName(),
	}
	for _, kind := range owned {
		found := &metav1.PartialObjectMetadataList{}
		found.SetGroupVersionKind(kind)
		if err := r.client.List(ctx, found, client.InNamespace(held.GetNamespace()), labels); err != nil {
			return err
		}
		for number := range found.Items {
			item := &found.Items[number]
			before := client.MergeFrom(item.DeepCopy())
			if err := controllerutil.SetOwnerReference(held, item, r.client.Scheme()); err != nil {
				return err
			}
			if err := r.client.Patch(ctx, item, before); err != nil {
				return err
			}
		}
	}
	return nil
}
