package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const (
	finalizer      = "finalizer.app.wandb.com"
	applied        = "-spec-active"
	settings       = "-spec-user"
	nextLook       = time.Hour
	nextCleanup    = time.Minute
	phaseLoading   = "Loading"
	phaseCompleted = "Completed"
	phaseInvalid   = "Invalid Config"
)

// What is to be installed: where the chart is (nil if no source has the form of the resource's), and its values.
type specification struct {
	Chart  *source
	Values map[string]any
}

type reconciler struct {
	client client.Client
}

// resource is an empty custom resource.
func resource() *unstructured.Unstructured {
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps.wandb.com", Version: "v1", Kind: "WeightsAndBiases"})
	return found
}

func secret(namespace, name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

// ownerOfSettings is the resource that a Secret with the console's settings belongs to.
func ownerOfSettings(_ context.Context, changed client.Object) []ctrl.Request {
	name, found := strings.CutSuffix(changed.GetName(), settings)
	if !found {
		return nil
	}
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: changed.GetNamespace(), Name: name}}}
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	held := resource()
	if err := r.client.Get(ctx, request.NamespacedName, held); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if held.GetDeletionTimestamp() != nil {
		return r.remove(ctx, held)
	}
	wanted, err := r.wanted(ctx, held)
	if err != nil {
		return ctrl.Result{}, err
	}
	if controllerutil.AddFinalizer(held, finalizer) {
		if err := r.client.Update(ctx, held); apierrors.IsConflict(err) {
			return ctrl.Result{RequeueAfter: time.Second}, nil
		} else if err != nil {
			return ctrl.Result{}, err
		}
	}
	noted, err := r.noted(ctx, held, applied)
	if err != nil {
		return ctrl.Result{}, err
	}
	if noted != nil && same(*noted, wanted) {
		r.report(ctx, held, phaseCompleted)
		return ctrl.Result{RequeueAfter: nextLook}, nil
	}
	if wanted.Chart == nil {
		log.FromContext(ctx).Error(nil, "No release type was found in the spec")
		r.report(ctx, held, phaseInvalid)
		return ctrl.Result{RequeueAfter: nextLook}, nil
	}
	r.report(ctx, held, phaseLoading)
	if err := r.apply(ctx, held, wanted); err != nil {
		log.FromContext(ctx).Error(err, "Failed to apply config changes.")
		r.report(ctx, held, phaseInvalid)
		return ctrl.Result{RequeueAfter: nextLook}, nil
	}
	r.report(ctx, held, phaseCompleted)
	return ctrl.Result{RequeueAfter: nextLook}, nil
}

// wanted is the specification of the resource, with the console's settings and our own name behind it.
func (r *reconciler) wanted(ctx context.Context, held *unstructured.Unstructured) (specification, error) {
	chart, _, _ := unstructured.NestedMap(held.Object, "spec", "chart")
	values, _, _ := unstructured.NestedMap(held.Object, "spec", "values")
	found := specification{Chart: sourceOf(chart), Values: values}
	if found.Values == nil {
		found.Values = map[string]any{}
	}
	console, err := r.noted(ctx, held, settings)
	if err != nil {
		return found, err
	}
	own := map[string]any{"apiVersion": held.GetAPIVersion(), "namespace": os.Getenv("OPERATOR_NAMESPACE")}
	layers := []map[string]any{{"global": map[string]any{"operator": own}}}
	if console != nil {
		layers = append([]map[string]any{console.Values}, layers...)
	} else if err := r.note(ctx, held, settings, specification{Values: map[string]any{}}); err != nil {
		return found, err
	}
	for _, layer := range layers {
		if err := merge(found.Values, layer); err != nil {
			return found, err
		}
	}
	return found, nil
}

// merge adds to `values` what `more` has: of two values the first stays, maps are merged, lists put one behind the other.
func merge(values, more map[string]any) error {
	for key, added := range more {
		present, found := values[key]
		if !found {
			values[key] = added
			continue
		}
		if reflect.TypeOf(present) != reflect.TypeOf(added) {
			return fmt.Errorf("%s: type not match", key)
		}
		switch present := present.(type) {
		case map[string]any:
			if err := merge(present, added.(map[string]any)); err != nil {
				return err
			}
		case []any:
			values[key] = append(present, added.([]any)...)
		}
	}
	return nil
}

func (r *reconciler) apply(ctx context.Context, held *unstructured.Unstructured, wanted specification) error {
	chart, err := r.fetch(ctx, wanted.Chart, held.GetNamespace())
	if err != nil {
		return err
	}
	if err := installOrUpgrade(held.GetName(), held.GetNamespace(), chart, wanted.Values); err != nil {
		return err
	}
	if err := r.own(ctx, held); err != nil {
		return err
	}
	return r.note(ctx, held, applied, wanted)
}

// remove takes the release away, and then the finalizer.
func (r *reconciler) remove(ctx context.Context, held *unstructured.Unstructured) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(held, finalizer) {
		return ctrl.Result{}, nil
	}
	chart, _, _ := unstructured.NestedMap(held.Object, "spec", "chart")
	if err := r.clean(ctx, held, sourceOf(chart)); err != nil {
		log.FromContext(ctx).Error(err, "Failed to cleanup deployment.")
		return ctrl.Result{RequeueAfter: nextCleanup}, nil
	}
	controllerutil.RemoveFinalizer(held, finalizer)
	return ctrl.Result{}, client.IgnoreNotFound(r.client.Update(ctx, held))
}

func (r *reconciler) clean(ctx context.Context, held *unstructured.Unstructured, from *source) error {
	if from != nil && from.isRepository() {
		if _, err := r.fetch(ctx, from, held.GetNamespace()); err != nil {
			return err
		}
	}
	return uninstall(held.GetName(), held.GetNamespace())
}

// report writes the phase; where that fails, the former one stays.
func (r *reconciler) report(ctx context.Context, held *unstructured.Unstructured, phase string) {
	if before, _, _ := unstructured.NestedString(held.Object, "status", "phase"); before == phase {
		return
	}
	if err := unstructured.SetNestedField(held.Object, phase, "status", "phase"); err != nil {
		return
	}
	if err := r.client.Status().Update(ctx, held); err != nil {
		log.FromContext(ctx).Info("the phase cannot be written", "phase", phase, "reason", err.Error())
	}
}
