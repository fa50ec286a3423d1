package portal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// A token is, in base64url without padding:
//
//	version 1 | key id 4 | purpose 1 | expiry 8 (Unix seconds) | holder 8 | incident 1..64 | HMAC-SHA256 32
//
// The HMAC is over all that comes before. The key id is a fingerprint of the
// key; the holder a keyed hash, so that a link tells nothing about the customer.
const (
	tokenVersion = 1
	headSize     = 1 + 4 + 1 + 8 + 8
	holderAt     = headSize - 8
	maxIncident  = 64
)

// purpose is the page that a link leads to.
type purpose byte

const (
	purposeStatement purpose = 1
	purposeReleased  purpose = 2 // the page after an answer, one for each outcome
	purposeQueued    purpose = 3
	purposeRefused   purpose = 4
)

// resultAge is how long the page after an answer can be looked at again.
const resultAge = 24 * time.Hour

// encoding is strict, so that one token has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// LinkConfig is what links are made from.
type LinkConfig struct {
	// BaseURL is where the handler is reached from outside, for example
	// https://abuse.example.net/case; a link is BaseURL, "/" and the token.
	BaseURL string
	// Secrets are keys of at least 32 bytes: the first signs, all verify. To
	// rotate, put the new one first, and drop the old one when its links have
	// expired.
	Secrets [][]byte
	// TTL is how long a link is good. 14 days.
	TTL time.Duration
}

// Links makes and opens signed links. It is safe for concurrent use.
type Links struct {
	base string // without a slash at the end
	path string // of base
	ttl  time.Duration
	keys []linkKey
}

// linkKey is one secret's keys, one for each use.
type linkKey struct {
	id                 [4]byte
	sign, holder, form []byte
}

// NewLinks checks the configuration; all errors are reported at once, without
// the secrets.
func NewLinks(cfg LinkConfig) (*Links, error) {
	l := &Links{base: strings.TrimRight(cfg.BaseURL, "/"), ttl: cfg.TTL}
	if l.ttl == 0 {
		l.ttl = 14 * 24 * time.Hour
	}
	var errs []error
	u, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil:
		errs = append(errs, errors.New("portal: base url cannot be read: write for example https://abuse.example.net/case"))
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		errs = append(errs, fmt.Errorf("portal: base url %q: write https://, a host and a path, for example https://abuse.example.net/case", u.Redacted()))
	default:
		l.path = strings.TrimRight(u.EscapedPath(), "/")
	}
	if l.ttl < time.Minute || l.ttl > 365*24*time.Hour {
		errs = append(errs, fmt.Errorf("portal: links good for %s: write one minute to one year", l.ttl))
	}
	if len(cfg.Secrets) == 0 {
		errs = append(errs, errors.New("portal: no secret: write a file with 32 random bytes, for example by openssl rand -base64 32"))
	}
	for i, s := range cfg.Secrets {
		if len(s) < 32 {
			errs = append(errs, fmt.Errorf("portal: secret %d has %d bytes: write at least 32 random ones, for example by openssl rand -base64 32", i+1, len(s)))
			continue
		}
		k := linkKey{sign: derive(s, "link"), holder: derive(s, "holder"), form: derive(s, "form")}
		copy(k.id[:], derive(s, "id"))
		for _, o := range l.keys {
			if o.id == k.id {
				errs = append(errs, fmt.Errorf("portal: secret %d is there twice", i+1))
			}
		}
		l.keys = append(l.keys, k)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

// derive makes a key for one use, so that no output of one use is good for another.
func derive(secret []byte, use string) []byte { return mac(secret, []byte("flowcordon portal 1 "+use)) }

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// TTL is how long links are good.
func (l *Links) TTL() time.Duration { return l.ttl }

// Statement is the link to an incident's form, good until at plus TTL. It
// depends on the incident, its holder and at only: a mail that is sent again
// carries the same link. It is a secret of the customer: never log it.
func (l *Links) Statement(inc flow.Incident, at time.Time) string {
	return l.base + "/" + l.token(inc, purposeStatement, at.Add(l.ttl))
}

func (l *Links) token(inc flow.Incident, p purpose, expires time.Time) string {
	return l.sign(l.keys[0], inc.ID, HolderKey(inc), p, expires)
}

func (l *Links) sign(k linkKey, id, holder string, p purpose, expires time.Time) string {
	b := make([]byte, 0, headSize+len(id)+sha256.Size)
	b = append(b, tokenVersion)
	b = append(b, k.id[:]...)
	b = append(b, byte(p))
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	b = append(b, mac(k.holder, []byte(holder))[:8]...)
	b = append(b, id...)
	return encoding.EncodeToString(append(b, mac(k.sign, b)...))
}

// HolderKey names whom an incident is about: the customer, else the VDS, else
// the address.
func HolderKey(inc flow.Incident) string {
	switch h := inc.Holder; {
	case h.Tenant != "":
		return "tenant " + h.Tenant
	case h.VDS != "":
		return "vds " + h.Hypervisor + " " + h.VDS
	}
	return "address " + inc.Tenant.String()
}

// claims is what a good token says.
type claims struct {
	purpose  purpose
	incident string
	expires  time.Time
	holder   []byte
	key      linkKey
}

// id names what a link is good for, whichever key signed it: after a rotation
// the mail that is sent again is no second answer.
func (c claims) id() string {
	var exp [8]byte
	binary.BigEndian.PutUint64(exp[:], uint64(c.expires.Unix()))
	h := sha256.New()
	h.Write([]byte{byte(c.purpose)})
	h.Write(exp[:])
	h.Write([]byte(c.incident))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (c claims) use() Use { return Use{ID: c.id(), Incident: c.incident, Expires: c.expires} }

// of reports whether the link was made for the incident's holder.
func (c claims) of(inc flow.Incident) bool {
	return hmac.Equal(c.holder, mac(c.key.holder, []byte(HolderKey(inc)))[:8])
}

// open verifies a token. The signature is looked at before anything that it
// covers.
func (l *Links) open(token string, now time.Time) (claims, Reason) {
	// The decoder skips line ends, which would be another spelling.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return claims{}, ReasonMalformed
	}
	b, err := encoding.DecodeString(token)
	if err != nil || len(b) < headSize+1+sha256.Size || len(b) > headSize+maxIncident+sha256.Size {
		return claims{}, ReasonMalformed
	}
	if b[0] != tokenVersion {
		return claims{}, ReasonVersion
	}
	payload, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	for _, k := range l.keys {
		if !bytes.Equal(k.id[:], b[1:5]) { // no secret: anybody may read it in his own link
			continue
		}
		if !hmac.Equal(sum, mac(k.sign, payload)) {
			return claims{}, ReasonSignature
		}
		c := claims{
			purpose: purpose(b[5]), expires: time.Unix(int64(binary.BigEndian.Uint64(b[6:14])), 0).UTC(),
			holder: payload[holderAt:headSize], incident: string(payload[headSize:]), key: k,
		}
		if !now.Before(c.expires) {
			return c, ReasonExpired
		}
		return c, ""
	}
	return claims{}, ReasonKey
}

// form is the token of a page's form: it proves that the form was shown for
// this link, and when.
func (c claims) form(at time.Time) string {
	var ts [8]byte
	binary.BigEndian.PutUint64(ts[:], uint64(at.Unix()))
	return encoding.EncodeToString(append(ts[:], mac(c.key.form, ts[:], []byte(c.id()))[:16]...))
}

func (c claims) formGood(token string, now time.Time) bool {
	b, err := encoding.DecodeString(token)
	if err != nil || len(b) != 24 {
		return false
	}
	if !hmac.Equal(b[8:], mac(c.key.form, b[:8], []byte(c.id()))[:16]) {
		return false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b[:8])), 0))
	return age >= -time.Minute && age < formAge
}
