// A stand-in for W&B's operator v2 and for cert-manager, neither of which a test environment can be expected to have.
//
// It is written from what the real operator (github.com/wandb/operator, main at 7b063065) was seen to do, and is one
// program for three: /crd-installer is the hook of the chart, /manager the operator, /cert-manager the other one.
//
// What it keeps of the original, on purpose:
//
//   - the server manifest is fetched by its tag with three GETs, an index by its first entry; what fails then is in the
//     log alone, or with MANIFEST_CONDITION=1 also in a condition, as newer ones have it;
//   - what was fetched once is never fetched again, with whatever credentials;
//   - external services count as healthy as soon as their Secrets are there;
//   - the place of the manifest is written into the resource when it is first admitted, and stays;
//   - a key that the manifest lacks becomes an image without a name;
//   - Jobs of migrations are called by the resource and the migration, not by the version: one that has failed stays,
//     with its image, whatever version is asked for next;
//   - Ready tells of its own generation in the condition; status.observedGeneration moves at the very end;
//   - detach keeps what managed services run, but not ClickHouse's Keeper;
//   - converting a resource of v1 needs the manifest that its values lead to, and forgets registry and pull secrets;
//     whatever is written through v1 afterwards makes v2 anew from what v1 said.
package main

import (
	"os"
	"path/filepath"
	"time"
)

const pause = 500 * time.Millisecond

func main() {
	connect()
	switch filepath.Base(os.Args[0]) {
	case "crd-installer":
		installKinds(os.Args[1:])
	case "cert-manager":
		for ; ; time.Sleep(pause) {
			certify()
		}
	default:
		go serveWebhooks(flag("webhook-cert-path", os.Args))
		for ; ; time.Sleep(pause) {
			reconcileAll()
		}
	}
}
