package panel

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a request's timestamp may be from our clock, and so how
// long a captured request could be sent again.
const maxSkew = 300 * time.Second

// maxBody bounds a request: a ticket with three logs of some thousand lines.
const maxBody = 4 << 20

// Sign is the value of X-Flowcordon-Signature for a body sent at ts.
func Sign(secret []byte, ts time.Time, body []byte) (timestamp, signature string) {
	timestamp = strconv.FormatInt(ts.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return timestamp, "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// verify reads the body of r and checks who signed it and when.
func verify(r *http.Request, secret []byte, now time.Time) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("body of more than %d bytes", maxBody)
	}
	stamp := r.Header.Get("X-Flowcordon-Timestamp")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return body, errors.New("X-Flowcordon-Timestamp is not a number of seconds")
	}
	sent := time.Unix(unix, 0)
	_, want := Sign(secret, sent, body)
	if !hmac.Equal([]byte(want), []byte(strings.TrimSpace(r.Header.Get("X-Flowcordon-Signature")))) {
		return body, errors.New("X-Flowcordon-Signature does not match the body")
	}
	if d := now.Sub(sent); d > maxSkew || d < -maxSkew {
		return body, fmt.Errorf("timestamp is %s off", d.Round(time.Second))
	}
	return bytes.TrimSpace(body), nil
}
