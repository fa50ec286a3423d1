package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// usersXML makes the user `default` harmless. clickhouse-local's own session,
// which runs the boot script, is always `default` with an empty password from
// 127.0.0.1, so such a user must exist and anyone on the machine could log in
// as it. It may do what the boot script does and nothing more, and its quota of
// two queries is spent by the boot script: afterwards every statement that
// reads anything is refused. The interval is the longest the engine takes (its
// parser wants an int32 and exits otherwise); intervals are aligned to the
// epoch, so this one ends in January 2038.
const usersXML = `<clickhouse>
<profiles>
  <default>
    <max_memory_usage>%[3]d</max_memory_usage>
    <max_bytes_before_external_group_by>%[4]d</max_bytes_before_external_group_by>
    <max_bytes_before_external_sort>%[4]d</max_bytes_before_external_sort>
  </default>
  <boot/>
</profiles>
<users>
  <default>
    <password></password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>boot</profile>
    <quota>boot</quota>
    <grants>
      <query>GRANT SYSTEM LISTEN ON *.*</query>
      <query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
    </grants>
  </default>
  <%[1]s>
    <password_sha256_hex>%[2]s</password_sha256_hex>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <access_management>1</access_management>
  </%[1]s>
</users>
<quotas>
  <default/>
  <boot><interval><duration>2147483647</duration><queries>2</queries></interval></boot>
</quotas>
</clickhouse>
`

// configXML: port 0 lets the kernel choose, so that no port has to be kept
// free; the boot script says which. There are no system.*_log tables unless
// configured, so nothing grows by itself. Without a word the engine would count
// the distinct values of every column in each merge, for joins that nobody asks.
const configXML = `<clickhouse>
<logger><console>0</console><log>%s</log><size>20M</size><count>3</count></logger>
<listen_host>127.0.0.1</listen_host>
<tcp_port>0</tcp_port>
<max_server_memory_usage>%d</max_server_memory_usage>
<mark_cache_size>134217728</mark_cache_size>
<uncompressed_cache_size>0</uncompressed_cache_size>
<max_concurrent_queries>100</max_concurrent_queries>
<users_config>users.xml</users_config>
<merge_tree><auto_statistics_types></auto_statistics_types></merge_tree>
</clickhouse>
`

const bootSQL = `SYSTEM START LISTEN TCP;
SELECT getServerPort('tcp_port') INTO OUTFILE '%s' TRUNCATE FORMAT TSV;
INSERT INTO FUNCTION null('s String') FROM INFILE '/dev/fd/3' FORMAT LineAsString;
`

// Paths under the engine's directory.
const (
	fileConfig = "etc/config.xml"
	fileUsers  = "etc/users.xml"
	fileBoot   = "etc/boot.sql"
	filePort   = "run/port"
	fileStderr = "run/stderr"
	fileLog    = "run/engine.log"
	fileLock   = "lock"
	dirData    = "data"
	dirRun     = "run"
)

// writeFiles lays out the directory. Everything is for the owner alone.
func writeFiles(dir, user, password string, maxMemory int64) error {
	for _, d := range []string{"etc", dirData, dirRun} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return fmt.Errorf("make the engine's directory: %w", err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close the engine's directory to others: %w", err)
	}
	write := func(name, text string) error {
		p := filepath.Join(dir, name)
		// WriteFile keeps the mode of a file that exists: begin anew.
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return os.WriteFile(p, []byte(text), 0o600)
	}
	sum := sha256.Sum256([]byte(password))
	// One query may take 60 % of the engine's memory and spills to disk from
	// half of that, so that two at a time fit.
	query := maxMemory / 10 * 6
	return errors.Join(
		write(fileUsers, fmt.Sprintf(usersXML, user, hex.EncodeToString(sum[:]), query, query/2)),
		write(fileConfig, fmt.Sprintf(configXML, escapeXML(filepath.Join(dir, fileLog)), maxMemory)),
		write(fileBoot, fmt.Sprintf(bootSQL, escapeSQL(filepath.Join(dir, filePort)))),
	)
}

func escapeXML(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer takes everything
	return b.String()
}

func escapeSQL(s string) string {
	return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
}
