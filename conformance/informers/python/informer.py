"""The informer of the Python client, for conformance trials: it keeps caches of fluxresources and prints them when it is
asked.

    informer.py KUBECONFIG SCOPES

SCOPES is a JSON list of {"namespace", "labelSelector", "fieldSelector"}, all optional: an informer each. For each line on
standard input one line of JSON is printed: {"caches": [[object, ...], ...]}, in the order of the scopes. It ends with its
input.
"""

import json
import os
import sys
from types import SimpleNamespace

from kubernetes import client, config
from kubernetes.informer import SharedInformer

RESOURCE = {"group": "view.gatehouse.dev", "version": "v1alpha1", "plural": "fluxresources"}


def lister(api, namespace):
    """A function as SharedInformer wants it: custom objects are listed as plain dictionaries, of which it can read the
    items, but not the list."""

    def answer(**options) -> object:
        if namespace:
            answered = api.list_namespaced_custom_object(**RESOURCE, **options)
        else:
            answered = api.list_cluster_custom_object(**RESOURCE, **options)
        if options.get("watch"):
            return answered
        metadata = SimpleNamespace(resource_version=answered["metadata"]["resourceVersion"])
        return SimpleNamespace(items=answered["items"], metadata=metadata)

    return answer


def main():
    kubeconfig, scopes = sys.argv[1:]
    api = client.CustomObjectsApi(config.new_client_from_config(kubeconfig))
    informers = []
    for scope in json.loads(scopes):
        namespace = scope.get("namespace")
        informer = SharedInformer(
            lister(api, namespace),
            namespace=namespace,
            label_selector=scope.get("labelSelector"),
            field_selector=scope.get("fieldSelector"),
        )
        informer.start()
        informers.append(informer)
    for _ in sys.stdin:
        json.dump({"caches": [informer.cache.list() for informer in informers]}, sys.stdout)
        print(flush=True)
    # Its threads wait for what the server may say next; nobody waits for them.
    os._exit(0)


if __name__ == "__main__":
    main()
