// An informer of client-go, for conformance trials: it keeps caches of fluxresources and prints them when it is asked.
//
//	informer KUBECONFIG SCOPES
//
// SCOPES is a JSON list of {"namespace", "labelSelector", "fieldSelector"}, all optional: an informer each. For each line
// on standard input one line of JSON is printed: {"caches": [[object, …], …]}, in the order of the scopes. It ends with
// its input.
//
// With KUBE_WATCHLIST_INCONSISTENCY_DETECTOR=true client-go compares each streamed list with a plain one of the same
// version, and panics where they differ. It asks for that version until it is answered. A replica that did not make the
// version, or has been restarted since, refuses for ever, as it must (410): that informer is then started anew, from
// nothing, and counted under "unverified".
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var resource = schema.GroupVersionResource{
	Group: "view.gatehouse.dev", Version: "v1alpha1", Resource: "fluxresources",
}

// scope is what one informer follows.
type scope struct {
	Namespace     string `json:"namespace"`
	LabelSelector string `json:"labelSelector"`
	FieldSelector string `json:"fieldSelector"`
}

// follower runs an informer, and another one where that one can go no further.
type follower struct {
	client     dynamic.ResourceInterface
	scope      scope
	semantics  any
	unverified *atomic.Int64

	mutex sync.Mutex
	store cache.Store
}

type answer struct {
	Caches     [][]any `json:"caches"`
	Unverified int64   `json:"unverified"`
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) != 3 {
		return fmt.Errorf("wanted: informer KUBECONFIG SCOPES")
	}
	var scopes []scope
	if err := json.Unmarshal([]byte(os.Args[2]), &scopes); err != nil {
		return fmt.Errorf("SCOPES: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}

	var unverified atomic.Int64
	var followers []*follower
	for _, scope := range scopes {
		follower := &follower{
			client:     client.Resource(resource).Namespace(scope.Namespace),
			scope:      scope,
			semantics:  client,
			unverified: &unverified,
			store:      cache.NewStore(cache.MetaNamespaceKeyFunc),
		}
		followers = append(followers, follower)
		go follower.run(ctx)
	}

	lines, answers := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answer := answer{Caches: [][]any{}, Unverified: unverified.Load()}
		for _, follower := range followers {
			answer.Caches = append(answer.Caches, follower.objects())
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		ctx, cancel := context.WithCancel(ctx)
		informer := f.informer(cancel)
		f.mutex.Lock()
		f.store = informer.GetStore()
		f.mutex.Unlock()
		informer.RunWithContext(ctx)
		cancel()
	}
}

// informer calls giveUp where what it listed can no longer be verified.
func (f *follower) informer(giveUp func()) cache.SharedIndexInformer {
	narrow := func(options *metav1.ListOptions) {
		options.LabelSelector, options.FieldSelector = f.scope.LabelSelector, f.scope.FieldSelector
	}
	listWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			list, err := f.client.List(ctx, options)
			exact := options.ResourceVersionMatch == metav1.ResourceVersionMatchExact
			if exact && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) {
				f.unverified.Add(1)
				giveUp()
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			return f.client.Watch(ctx, options)
		},
	}
	return cache.NewSharedIndexInformer(
		cache.ToListWatcherWithWatchListSemantics(listWatch, f.semantics),
		&unstructured.Unstructured{}, 0, cache.Indexers{},
	)
}

func (f *follower) objects() []any {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	objects := []any{}
	for _, object := range f.store.List() {
		objects = append(objects, object.(*unstructured.Unstructured).Object)
	}
	return objects
}
