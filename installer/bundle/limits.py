"""Every constant and maximum of format version 1. FORMAT.md gives the reasons."""

FORMAT = "airferry-bundle/1"
CHUNK = 4 * 1024 * 1024
"""Bytes of a blob covered by one BLAKE3 hash; the last chunk of a blob may be shorter."""

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
MINISIG = "SHA256SUMS.minisig"
SIGNATURES = "SHA256SUMS.sigs.json"
BUNDLE_JSON = "bundle.json"
OCI_LAYOUT = "oci-layout"
INDEX_JSON = "index.json"
MANIFEST_JSON = "manifest.json"

SLOTS = {SIGNATURE: 512, MINISIG: 512, SIGNATURES: 8192}
"""Signature members and the bytes kept for each, so that signing moves nothing."""
UNSIGNED = b"unsigned\n"
FILLED = frozenset({SIGNATURES})
"""Members that always have their slot's full size: their text is filled up with line feeds."""

MAX_SUMS = 32 * 1024 * 1024
MAX_BUNDLE_JSON = 256 * 1024 * 1024
MAX_INDEX_JSON = 64 * 1024 * 1024
MAX_SMALL_BLOB = 64 * 1024 * 1024
"""The largest blob that is ever held in memory as a whole: manifests, charts, documents."""
MAX_VOLUMES = 999
