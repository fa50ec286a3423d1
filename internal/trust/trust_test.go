package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhomItTrusts(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	cert := srv.Certificate()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.Raw)
	colons := strings.ToUpper(hex.EncodeToString(sum[:1]) + ":" + hex.EncodeToString(sum[1:]))
	pin, ok := Fingerprint(colons)
	if !ok || string(pin) != string(sum[:]) {
		t.Fatalf("fingerprint %x, %t", pin, ok)
	}
	other := make([]byte, sha256.Size)
	errOther := errors.New("another")
	refuse := func(got []byte) error {
		if string(got) != string(sum[:]) {
			t.Errorf("refused %x, the certificate's is %x", got, sum)
		}
		return errOther
	}
	roots := func(file string) *tls.Config {
		c, err := Roots(file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, c := range map[string]struct {
		tls  *tls.Config
		good bool
		is   error
	}{
		"the system's CAs":      {roots(""), false, nil},
		"a CA of a file":        {roots(ca), true, nil},
		"pinned":                {Pinned([][]byte{other, pin}, refuse), true, nil},
		"pinned to another":     {Pinned([][]byte{other}, refuse), false, errOther},
		"pinned to none at all": {Pinned(nil, refuse), false, errOther},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}}
		resp, err := client.Get(srv.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != c.good || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsWrong(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"/none.pem": "ca_file: open /none.pem", empty: "ca_file: no certificate in " + empty} {
		if _, err := Roots(file); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, s := range []string{"", "zz", strings.Repeat("ab", 31), strings.Repeat("ab", 33)} {
		if _, ok := Fingerprint(s); ok {
			t.Errorf("%q was taken", s)
		}
	}
}
