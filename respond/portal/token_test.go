package portal

import (
	"crypto/rand"
	mrand "math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

func links(t testing.TB, secrets ...[]byte) *Links {
	t.Helper()
	l, err := NewLinks(LinkConfig{BaseURL: "https://abuse.example.net/case/", Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tokenOf(link string) string { return link[strings.LastIndexByte(link, '/')+1:] }

func TestLink(t *testing.T) {
	l := links(t, newSecret)
	inc := incident("FC-AAAAAAAAAA", "c-77")
	link := l.Statement(inc, start)
	if !strings.HasPrefix(link, "https://abuse.example.net/case/") || len(link) > 150 || strings.ContainsAny(tokenOf(link), "+/=%") {
		t.Errorf("link %q", link)
	}
	if l.Statement(inc, start) != link {
		t.Error("a mail that is sent again has another link")
	}
	if strings.Contains(link, "c-77") {
		t.Error("the link tells the customer's number")
	}
	for name, other := range map[string]string{
		"later": l.Statement(inc, start.Add(time.Second)), "tenant": l.Statement(incident("FC-AAAAAAAAAA", "c-78"), start), "incident": l.Statement(incident("FC-AAAAAAAAAB", "c-77"), start),
	} {
		if other == link {
			t.Errorf("the same link for another %s", name)
		}
	}
	c, reason := l.open(tokenOf(link), start.Add(l.TTL()-time.Nanosecond))
	if reason != "" || c.incident != inc.ID || c.purpose != purposeStatement || !c.of(inc) {
		t.Errorf("%+v, %s", c, reason)
	}
	if _, reason := l.open(tokenOf(link), start.Add(l.TTL())); reason != ReasonExpired {
		t.Errorf("at its end: %q", reason)
	}
	if c.of(incident("FC-AAAAAAAAAA", "")) || c.of(incident("FC-AAAAAAAAAA", "c-7")) {
		t.Error("good for another holder")
	}
}

// Nothing that differs in one bit, or is shorter or longer, is good.
func TestTampered(t *testing.T) {
	l := links(t, newSecret)
	token := tokenOf(l.Statement(incident("FC-AAAAAAAAAA", "c-77"), start))
	raw, err := encoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		b := append([]byte(nil), raw...)
		b[bit/8] ^= 1 << (bit % 8)
		if _, reason := l.open(encoding.EncodeToString(b), start); reason == "" {
			t.Fatalf("good with bit %d changed", bit)
		}
	}
	for n := range len(token) {
		if _, reason := l.open(token[:n], start); reason == "" {
			t.Fatalf("good when cut to %d characters", n)
		}
	}
	// Another spelling of the same bytes would be a second use of the link.
	for _, other := range []string{token + "=", token + "A", token + "\n", " " + token, strings.ToLower(token), token[:len(token)-1] + "_"} {
		if _, reason := l.open(other, start); other != token && reason == "" {
			t.Errorf("good: %q", other)
		}
	}
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	good := 0
	for _, r := range alphabet {
		if _, reason := l.open(token[:len(token)-1]+string(r), start); reason == "" {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d spellings of the last character are good", good)
	}
}

func TestRotation(t *testing.T) {
	before, during, after := links(t, oldSecret), links(t, newSecret, oldSecret), links(t, newSecret)
	inc := incident("FC-AAAAAAAAAA", "c-77")
	old := tokenOf(before.Statement(inc, start))
	c, reason := during.open(old, start)
	if reason != "" || !c.of(inc) {
		t.Errorf("while both are configured: %s", reason)
	}
	if _, reason := after.open(old, start); reason != ReasonKey {
		t.Errorf("after the old key was dropped: %q", reason)
	}
	renewed := tokenOf(during.Statement(inc, start))
	if _, reason := after.open(renewed, start); reason != "" {
		t.Errorf("the new key does not sign: %s", reason)
	}
	// The same mail sent again after the rotation is no second answer.
	if n, _ := during.open(renewed, start); n.id() != c.id() {
		t.Error("two links of one mail are two answers")
	}
	// A token that says it is of the new key and is signed with the old one.
	raw, _ := encoding.DecodeString(old)
	copy(raw[1:5], after.keys[0].id[:])
	if _, reason := during.open(encoding.EncodeToString(raw), start); reason != ReasonSignature {
		t.Errorf("signed with the old key in the new one's name: %q", reason)
	}
}

// 100,000 guesses: random bytes of the right length, and good links with a
// random tail.
func TestGuessed(t *testing.T) {
	l := links(t, newSecret, oldSecret)
	raw, _ := encoding.DecodeString(tokenOf(l.Statement(incident("FC-AAAAAAAAAA", "c-77"), start)))
	b := make([]byte, len(raw))
	for i := range 100_000 {
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			copy(b, raw[:mrand.IntN(len(raw)-8)])
		}
		if c, reason := l.open(encoding.EncodeToString(b), start); reason == "" {
			t.Fatalf("guess %d is good: %+v", i, c)
		}
	}
	s := open(t)
	for range 300 {
		if _, err := rand.Read(b); err != nil {
			t.Fatal(err)
		}
		if w := s.do(http.MethodGet, "/case/"+encoding.EncodeToString(b), ""); w.Code != http.StatusNotFound {
			t.Fatalf("%d", w.Code)
		}
	}
}

func TestLinkConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  LinkConfig
		want []string
	}{
		"nothing":       {LinkConfig{}, []string{"base url", "no secret"}},
		"no scheme":     {LinkConfig{BaseURL: "abuse.example.net/case", Secrets: [][]byte{newSecret}}, []string{"write https://"}},
		"query":         {LinkConfig{BaseURL: "https://x/?a=b", Secrets: [][]byte{newSecret}}, []string{"write https://"}},
		"short and old": {LinkConfig{BaseURL: "https://x", Secrets: [][]byte{newSecret[:31], oldSecret, oldSecret}, TTL: time.Second}, []string{"secret 1 has 31 bytes", "secret 3 is there twice", "one minute to one year"}},
		"login":         {LinkConfig{BaseURL: "https://user:hunter22@x/", Secrets: [][]byte{newSecret}}, []string{"write https://"}},
	} {
		_, err := NewLinks(tc.cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", name, want, err)
			}
		}
		for _, secret := range []string{string(newSecret[:31]), string(oldSecret), "hunter22"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error holds a secret", name)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	l := links(f, newSecret, oldSecret)
	good := tokenOf(l.Statement(incident("FC-AAAAAAAAAA", "c-77"), start))
	f.Add(good)
	f.Add("")
	f.Add(good + good)
	f.Fuzz(func(t *testing.T, token string) {
		if c, reason := l.open(token, start); reason == "" && token != good {
			t.Fatalf("%q is good: %+v", token, c)
		}
	})
}
