package api

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// session is one browser of somebody who signed in. Of its cookie only the hash
// is kept.
type session struct {
	id      string // names it to others; opens nothing
	token   Token
	subject string
	csrf    string
	agent   [sha256.Size]byte // of the User-Agent that it was made for
	remote  string
	idToken string // a hint for the provider's own logout
	limit   *rate.Limiter
	created time.Time
	used    time.Time
}

// sessions are kept in memory: a restart signs everybody out.
type sessions struct {
	mu   sync.Mutex
	of   map[[sha256.Size]byte]*session // by the hash of the cookie
	life time.Duration
	idle time.Duration
}

func newSessions(c *OIDC) *sessions {
	s := &sessions{of: map[[sha256.Size]byte]*session{}, life: defaultSession, idle: defaultIdle}
	if c != nil && c.SessionFor > 0 {
		s.life = c.SessionFor
	}
	if c != nil && c.IdleFor > 0 {
		s.idle = c.IdleFor
	}
	return s
}

// randomText is a secret of 256 bits.
func randomText() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// add makes a session and gives the cookie's value, which nobody had before.
func (s *sessions) add(p *person, r *http.Request, rt Rate, now time.Time) (*session, string) {
	secret := randomText()
	n := &session{id: randomText()[:16], subject: p.subject, csrf: randomText(), agent: sha256.Sum256([]byte(r.UserAgent())), remote: r.RemoteAddr,
		idToken: p.idToken, created: now, used: now}
	n.token = Token{Name: NamePrefix + p.name, Role: p.role, Expires: now.Add(s.life), Rate: rt, session: n.id}
	if rt.PerSecond > 0 {
		n.limit = rate.NewLimiter(rate.Limit(rt.PerSecond), max(rt.Burst, 1))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	s.makeRoom(p.subject)
	s.of[sha256.Sum256([]byte(secret))] = n
	return n, secret
}

func (s *sessions) dead(x *session, now time.Time) bool {
	return x.token.expired(now) || now.Sub(x.used) >= s.idle
}

func (s *sessions) sweep(now time.Time) {
	for k, x := range s.of {
		if s.dead(x, now) {
			delete(s.of, k)
		}
	}
}

// makeRoom ends the oldest session of who has too many, and of all.
func (s *sessions) makeRoom(subject string) {
	for _, b := range []struct {
		limit int
		mine  bool
	}{{maxSessionsOf, true}, {maxSessions, false}} {
		n := 0
		var oldest [sha256.Size]byte
		var at *session
		for k, x := range s.of {
			if b.mine && x.subject != subject {
				continue
			}
			if n++; at == nil || x.used.Before(at.used) {
				oldest, at = k, x
			}
		}
		if n >= b.limit {
			delete(s.of, oldest)
		}
	}
}

// find gives a copy of the session that a cookie opens for this browser, and
// notes that it was used.
func (s *sessions) find(secret, agent string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of[sha256.Sum256([]byte(secret))] // by its hash: the time tells nothing about the secret
	if x == nil || s.dead(x, now) {
		return session{}, false
	}
	if a := sha256.Sum256([]byte(agent)); subtle.ConstantTimeCompare(a[:], x.agent[:]) != 1 {
		return session{}, false
	}
	x.used = now
	return *x, true
}

// end ends the sessions that match and gives how many.
func (s *sessions) end(match func(*session) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for k, x := range s.of {
		if match(x) {
			delete(s.of, k)
			n++
		}
	}
	return n
}

func (s *sessions) endSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, sha256.Sum256([]byte(secret)))
}

// list is a copy of those that last, newest first.
func (s *sessions) list(now time.Time) []session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []session
	for _, x := range s.of {
		if !s.dead(x, now) {
			out = append(out, *x)
		}
	}
	slices.SortFunc(out, func(a, b session) int {
		if c := b.created.Compare(a.created); c != 0 {
			return c
		}
		return cmp.Compare(a.id, b.id)
	})
	return out
}

// alive reports whether a session still lasts; it does not count as use.
func (s *sessions) alive(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.of {
		if x.id == id {
			return !s.dead(x, now)
		}
	}
	return false
}

// csrfOf a session; empty when it has ended meanwhile.
func (s *sessions) csrfOf(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.of {
		if x.id == id {
			return x.csrf
		}
	}
	return ""
}
