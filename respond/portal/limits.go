package portal

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxToken  = 256      // characters; ours have about 100
	maxBody   = 96 << 10 // of a form: three answers of maxAnswer four-byte runes, percent-encoded, are 90 KB
	maxAnswer = 2500     // runes of one answer: more than a page
	maxText   = 16 << 10 // bytes of a whole statement, as respond stores it; Cyrillic answers of maxAnswer fit
	minAnswer = 10       // runes of one answer: "fixed" says nothing
	maxShown  = 200      // lines of a log on the page; the download has all

	// One link's own limits: a person reads and reloads, and sends once or twice.
	viewEvery, viewBurst = time.Second, 30
	postEvery, postBurst = 30 * time.Second, 5

	maxLinks = 10_000 // links whose rate is remembered; about 2 MB

	formAge = 24 * time.Hour // a page may lie open for a night
)

// limiter bounds the requests of each link. Only links with a good signature
// get here, so that strangers can neither fill it nor use up another's share.
type limiter struct {
	mu   sync.Mutex
	seen map[string]*share
}

type share struct {
	view, post *rate.Limiter
	last       time.Time
}

func (l *limiter) allow(id string, post bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seen[id]
	if s == nil {
		if len(l.seen) >= maxLinks {
			l.forget(now)
		}
		s = &share{view: rate.NewLimiter(rate.Every(viewEvery), viewBurst), post: rate.NewLimiter(rate.Every(postEvery), postBurst)}
		l.seen[id] = s
	}
	s.last = now
	if post {
		return s.post.AllowN(now, 1)
	}
	return s.view.AllowN(now, 1)
}

// forget drops the links that were quiet long enough to have their full share
// again, and if there is none of those, any one.
func (l *limiter) forget(now time.Time) {
	for id, s := range l.seen {
		if now.Sub(s.last) > postBurst*postEvery {
			delete(l.seen, id)
		}
	}
	if len(l.seen) < maxLinks {
		return
	}
	for id := range l.seen {
		delete(l.seen, id)
		return
	}
}
