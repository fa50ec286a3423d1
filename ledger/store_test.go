package ledger

import "github.com/flowcordon/flowcordon/store"

var _ Log = (*store.Store)(nil)
