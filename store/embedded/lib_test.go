package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindLib(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, libName)
	if err := os.WriteFile(there, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkout := t.TempDir()
	deep := filepath.Join(checkout, "detect", "testdata")
	installed := filepath.Join(checkout, checkoutDir, libPackage)
	for _, d := range []string{deep, filepath.Dir(installed)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(installed, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, arg, env, wd string
		want               string // empty: an error
	}{
		{"file given", there, "", dir, there},
		{"directory given", dir, "", dir, there},
		{"given beats environment", there, installed, dir, there},
		{"environment", "", installed, dir, installed},
		{"from a folder of a checkout", "", "", deep, installed},
		{"from the engine's own folder", "", "", filepath.Join(checkout, checkoutDir), installed},
		{"given and absent", filepath.Join(dir, "absent.so"), "", checkout, ""},
		{"environment and absent", "", filepath.Join(dir, "absent.so"), checkout, ""},
		{"nowhere", "", "", dir, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(EnvLib, tt.env)
			t.Chdir(tt.wd)
			got, err := FindLib(tt.arg)
			switch {
			case tt.want == "" && !errors.Is(err, ErrNoLib):
				t.Errorf("got %q, %v; want %v", got, err, ErrNoLib)
			case tt.want == "" && tt.name == "nowhere" && !strings.Contains(err.Error(), "npm ci --ignore-scripts"):
				t.Errorf("%q does not say what to run", err)
			case tt.want != "" && (err != nil || got != tt.want):
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
