package main

import (
	"context"
	"time"
)

// prepareFor bounds what a tick may have to wait for the rows that came just
// before it. A database that is slower than that is behind, and is judged by
// what it has.
const prepareFor = time.Second

// storeReceived is detect.Deps.Prepare: the rows that are due go to the database
// and are there when it returns, unless that takes too long. Without it a busy
// key's rows wait for the next flush and for a batch to be full or two seconds old.
func (s *service) storeReceived(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, prepareFor)
	defer cancel()
	s.collector.FlushDue(ctx)
	_ = s.store.Sync(ctx) // what failed is counted and logged where it failed
}
