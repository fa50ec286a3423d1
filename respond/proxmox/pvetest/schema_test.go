package pvetest

import (
	"os"
	"path/filepath"
	"testing"
)

// The check by the API's own schema, on a schema of this test's: it must be
// able to fail.
func TestOracleCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "apidoc.js")
	text := `const apiSchema = [{"path":"/a","children":[{"path":"/a/{id}","info":{"PUT":{"parameters":{"properties":{
		"id":{"type":"string"},"n":{"type":"integer","minimum":1,"maximum":30,"optional":1},"s":{"type":"string","maxLength":4,"optional":"1"},
		"b":{"type":"boolean","optional":1},"e":{"type":"string","enum":["in","out"],"optional":1},"must":{"type":"string","pattern":"[a-z]+"},
		"net[n]":{"type":"string","optional":1,"format":{"bridge":{"type":"string","optional":1},"tag":{"type":"integer","maximum":4094,"optional":1},"trunks":{"type":"string","optional":1,"pattern":"(?^:\\d+(?:;\\d+)*)"}}}
	}}}}}]}] ; let viewer = function() {};`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FLOWCORDON_PVE_APIDOC", file)
	var o oracle
	o.load(t)
	for name, c := range map[string]struct {
		path, key, val string
		ok             bool
	}{
		"all is well":              {"/a/{id}", "n", "30", true},
		"no such method":           {"/b", "n", "1", false},
		"no such parameter":        {"/a/{id}", "x", "1", false},
		"out of bounds":            {"/a/{id}", "n", "31", false},
		"no number":                {"/a/{id}", "n", "x", false},
		"as long as may be":        {"/a/{id}", "s", "жжжж", true},
		"too long":                 {"/a/{id}", "s", "жжжжж", false},
		"no boolean":               {"/a/{id}", "b", "maybe", false},
		"none of the enum":         {"/a/{id}", "e", "sideways", false},
		"a property string":        {"/a/{id}", "net3", "bridge=vmbr0,tag=7", true},
		"a property that is none":  {"/a/{id}", "net3", "bridge=vmbr0,vlan=7", false},
		"a property's pattern":     {"/a/{id}", "net3", "trunks=7;8", true},
		"not the pattern":          {"/a/{id}", "net3", "trunks=7,8", false},
		"a property out of bounds": {"/a/{id}", "net3", "tag=4095", false},
	} {
		t.Run(name, func(t *testing.T) {
			why := o.check("PUT", c.path, map[string]string{c.key: c.val, "must": "abc"})
			if (why == "") != c.ok {
				t.Errorf("check = %q, want it taken: %t", why, c.ok)
			}
		})
	}
	if o.check("PUT", "/a/{id}", map[string]string{"n": "1"}) == "" {
		t.Error("a required parameter may be left out")
	}
	if o.check("PUT", "/a/{id}", map[string]string{"must": "ABC"}) == "" {
		t.Error("a pattern is not looked at")
	}
}
