package api

import (
	"net/http/httptest"
	"testing"
	"time"
)

// signedIn makes a session without a provider and gives its id.
func (b *bench) signedIn(role Role, name string) string {
	n, _ := b.h.live.add(&person{subject: "sub-" + name, name: name, role: role}, httptest.NewRequest("GET", "/", nil), Rate{}, b.clock())
	return n.id
}

func TestSessionsEnd(t *testing.T) {
	s := newSessions(&OIDC{SessionFor: time.Hour, IdleFor: 10 * time.Minute})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("User-Agent", "firefox")
	add := func(subject string, at time.Time) (*session, string) {
		return s.add(&person{subject: subject, name: subject, role: RoleViewer}, r, Rate{}, at)
	}
	n, secret := add("anna", t0)
	for _, tc := range []struct {
		name, secret, agent string
		at                  time.Duration
		want                bool
	}{
		{"another secret", secret + "x", "firefox", 0, false},
		{"its id", n.id, "firefox", 0, false},
		{"another browser", secret, "curl", 0, false},
		{"just below idle", secret, "firefox", 10*time.Minute - 1, true},
		{"just below idle of the last use", secret, "firefox", 20*time.Minute - 2, true},
		{"exactly idle", secret, "firefox", 30*time.Minute - 2, false},
	} {
		if _, ok := s.find(tc.secret, tc.agent, t0.Add(tc.at)); ok != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, ok, tc.want)
		}
	}
	_, secret = add("boris", t0)
	for at := time.Duration(0); at < time.Hour; at += 9 * time.Minute {
		if _, ok := s.find(secret, "firefox", t0.Add(at)); !ok {
			t.Fatalf("busy session is over after %s", at)
		}
	}
	if _, ok := s.find(secret, "firefox", t0.Add(time.Hour)); ok {
		t.Error("a busy session outlives its end")
	}
	if s.sweep(t0.Add(2 * time.Hour)); len(s.of) != 0 {
		t.Errorf("%d sessions kept after their end", len(s.of))
	}
}

// TestSessionsAreBounded: who signs in again and again loses his oldest session,
// and nobody else's.
func TestSessionsAreBounded(t *testing.T) {
	s := newSessions(nil)
	r := httptest.NewRequest("GET", "/", nil)
	add := func(subject string, at time.Time) string {
		_, secret := s.add(&person{subject: subject, name: subject, role: RoleViewer}, r, Rate{}, at)
		return secret
	}
	other := add("anna", t0)
	first := add("boris", t0.Add(time.Second))
	for i := range maxSessionsOf {
		add("boris", t0.Add(time.Duration(i+2)*time.Second))
	}
	at := t0.Add(time.Minute)
	if _, ok := s.find(first, "", at); ok {
		t.Error("the oldest of too many sessions still opens")
	}
	if _, ok := s.find(other, "", at); !ok {
		t.Error("somebody else's session was ended")
	}
	if n := len(s.list(at)); n != maxSessionsOf+1 {
		t.Errorf("%d sessions, want %d", n, maxSessionsOf+1)
	}
}
