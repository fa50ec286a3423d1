// Package migrations holds the schema: ordered SQL files, one idempotent
// statement each, never edited after a release. What comes out is All; the
// store runs them. Column names are the snake_case of the flow structs' fields.
// The package does no I/O and imports nothing of the project.
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Migration is one statement of the schema.
type Migration struct {
	Version uint32 // 1, 2, … without gaps
	Name    string // of the file, without number and extension
	SQL     string // one statement; tables are named without a database
	SHA256  string // hex, of the file
}

// All returns every migration in the order of their versions. An error means
// that the files of this build are wrong.
func All() ([]Migration, error) {
	entries, err := files.ReadDir(".") // sorted by name
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	all := make([]Migration, 0, len(entries))
	for i, e := range entries {
		num, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		v, err := strconv.ParseUint(num, 10, 32)
		if !ok || err != nil || len(num) != 4 || v != uint64(i+1) {
			return nil, fmt.Errorf("migration %s: want %04d_name.sql", e.Name(), i+1)
		}
		b, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", e.Name(), err)
		}
		sum := sha256.Sum256(b)
		all = append(all, Migration{Version: uint32(v), Name: name, SQL: string(b), SHA256: hex.EncodeToString(sum[:])})
	}
	return all, nil
}
