// Command metrics-client reads a variant's metrics with the clients of client-go and k8s.io/metrics, as the controllers
// of Kubernetes do, and prints what each of them got: one line per client, its name, a tab, and JSON.
//
//	KUBECONFIG=… metrics-client NAMESPACE VARIANT
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"
)

const (
	desired  = "wva_desired_replicas"
	asJSON   = "application/json"
	protobuf = "application/vnd.kubernetes.protobuf"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: metrics-client NAMESPACE VARIANT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(namespace, variant string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	// Each group must be known to discovery before the mapper is made.
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover))
	one, err := labels.Parse("variant_name=" + variant)
	if err != nil {
		return err
	}

	for name, accepts := range map[string]string{"json": asJSON, "protobuf": protobuf} {
		config := rest.CopyConfig(config)
		config.AcceptContentTypes, config.ContentType = accepts, accepts
		external, err := external_metrics.NewForConfig(config)
		if err != nil {
			return err
		}
		list, err := external.NamespacedMetrics(namespace).List(desired, one)
		show("external "+name, list, err)
		list, err = external.NamespacedMetrics(namespace).List(desired, labels.SelectorFromSet(labels.Set{"variant_name": "absent"}))
		show("external absent "+name, list, err)

		for _, version := range []string{"v1beta1", "v1beta2"} {
			client, err := custom_metrics.NewForVersionForConfig(config, mapper, schema.GroupVersion{Group: "custom.metrics.k8s.io", Version: version})
			if err != nil {
				return err
			}
			object(client, "custom "+version+" "+name, namespace, variant)
		}
		// As the HPA controller: of the version that discovery prefers.
		client := custom_metrics.NewForConfig(config, mapper, custom_metrics.NewAvailableAPIsGetter(discover))
		object(client, "custom preferred "+name, namespace, variant)
	}

	show("discovery", advertised(discover), nil)
	paths, err := discover.OpenAPIV3().Paths()
	var published []string
	for path, document := range paths {
		if isMetrics(path) {
			text, err := document.Schema(asJSON)
			published = append(published, fmt.Sprintf("%s %t", path, err == nil && len(text) > 0))
		}
	}
	sort.Strings(published)
	show("openapi", published, err)
	return nil
}

func object(client custom_metrics.CustomMetricsClient, name, namespace, variant string) {
	for _, kind := range []schema.GroupKind{{Group: "apps", Kind: "Deployment"}, {Group: "llmd.ai", Kind: "VariantAutoscaling"}} {
		value, err := client.NamespacedMetrics(namespace).GetForObject(kind, variant, desired, labels.Everything())
		show(name+" "+kind.Kind, value, err)
	}
	all, err := client.NamespacedMetrics(namespace).GetForObjects(schema.GroupKind{Group: "apps", Kind: "Deployment"}, labels.Everything(), desired, labels.Everything())
	show(name+" all", all, err)
	// Of every namespace, and of objects that have none.
	all, err = client.RootScopedMetrics().GetForObjects(schema.GroupKind{Group: "apps", Kind: "Deployment"}, labels.Everything(), desired, labels.Everything())
	show(name+" everywhere", all, err)
	value, err := client.RootScopedMetrics().GetForObject(schema.GroupKind{Kind: "Node"}, variant, desired, labels.Everything())
	show(name+" node", value, err)
	value, err = client.RootScopedMetrics().GetForObject(schema.GroupKind{Kind: "Namespace"}, namespace, desired, labels.Everything())
	show(name+" namespace", value, err)
}

// advertised returns the resources of the metrics groups, or what discovery complains of.
func advertised(client discovery.DiscoveryInterface) []string {
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	var found []string
	for _, list := range lists {
		for _, resource := range list.APIResources {
			if isMetrics(list.GroupVersion) {
				found = append(found, fmt.Sprintf("%s/%s %s %v", list.GroupVersion, resource.Name, resource.Kind, resource.Verbs))
			}
		}
	}
	sort.Strings(found)
	return found
}

// isMetrics tells whether a group and version, or a path to one, is of a group that serves metrics of variants.
func isMetrics(text string) bool {
	text = strings.TrimPrefix(text, "apis/")
	group, _, _ := strings.Cut(text, "/")
	return slices.Contains([]string{"external.metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.llmd.ai"}, group)
}

func show(name string, value any, err error) {
	if err != nil {
		value = map[string]any{"error": err.Error(), "reason": apierrors.ReasonForError(err)}
	}
	text, err := json.Marshal(value)
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Printf("%s\t%s\n", name, text)
}
