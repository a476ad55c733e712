// The informer of the JavaScript client, for conformance trials: it keeps caches of fluxresources and prints them when it
// is asked.
//
//   informer.mjs KUBECONFIG SCOPES
//
// SCOPES is a JSON list of {"namespace", "labelSelector", "fieldSelector"}, all optional: an informer each. For each line
// on standard input one line of JSON is printed: {"caches": [[object, …], …]}, in the order of the scopes. It ends with
// its input.

import { createInterface } from 'node:readline';
import { CustomObjectsApi, KubeConfig, ListWatch, Watch } from '@kubernetes/client-node';

const GROUP = 'view.gatehouse.dev';
const VERSION = 'v1alpha1';
const PLURAL = 'fluxresources';

// As the client's documentation has it: an informer that met an error is started again by its user.
const AGAIN_MS = 500;

const [kubeconfig, scopes] = process.argv.slice(-2);
const config = new KubeConfig();
config.loadFromFile(kubeconfig);
const api = config.makeApiClient(CustomObjectsApi);

// What makeInformer does, with the field selector that ListWatch alone takes.
function informer({ namespace, labelSelector, fieldSelector }) {
    const wanted = { group: GROUP, version: VERSION, plural: PLURAL, namespace, labelSelector, fieldSelector };
    const list = () =>
        namespace ? api.listNamespacedCustomObject(wanted) : api.listClusterCustomObject(wanted);
    const within = namespace ? `namespaces/${namespace}/` : '';
    const path = `/apis/${GROUP}/${VERSION}/${within}${PLURAL}`;
    const follower = new ListWatch(path, new Watch(config), list, false, labelSelector, fieldSelector);
    follower.on('error', (error) => {
        console.error(`informer: ${error}`);
        setTimeout(() => follower.start(), AGAIN_MS);
    });
    follower.start();
    return follower;
}

const informers = JSON.parse(scopes).map(informer);
createInterface({ input: process.stdin })
    .on('line', () => console.log(JSON.stringify({ caches: informers.map((each) => each.list()) })))
    .on('close', () => process.exit(0));
