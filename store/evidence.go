package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/flow"
)

// ErrNotFound is returned by Evidence for an incident that has none.
var ErrNotFound = errors.New("not found")

// saveWait bounds a save whose caller has set no deadline.
const saveWait = 30 * time.Second

// save inserts a few rows synchronously; with a token, once.
func (s *Store) save(ctx context.Context, table, sql, token string, rows [][]any) error {
	ctx, cancel := withDeadline(ctx, saveWait)
	defer cancel()
	settings := clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}
	if token != "" {
		settings["insert_deduplicate"], settings["insert_deduplication_token"] = 1, token
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings))
	w, err := s.conn.PrepareBatch(ctx, sql)
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	defer func() { _ = w.Close() }()
	for _, r := range rows {
		if err := w.Append(r...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
	}
	if err := w.Send(); err != nil {
		s.metrics.insertErrors.Inc()
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	s.metrics.rows.WithLabelValues(table).Add(float64(len(rows)))
	return nil
}

// SaveFindings stores findings and returns when ClickHouse has acknowledged
// them. Saving the same findings twice stores them once.
func (s *Store) SaveFindings(ctx context.Context, l []flow.Finding) error {
	if len(l) == 0 {
		return nil
	}
	rows := make([][]any, len(l))
	for i, f := range l {
		rows[i] = []any{
			toDB(f.Time), mapped(f.Tenant), string(f.Rule), f.Tier.String(), f.IPProto, f.Port, mapped(f.Remote),
			f.WindowS, f.Samples, f.Distinct, f.SamplingRate, f.Score, f.Threshold, f.EstRate,
			f.Reason, f.Gates, toDB(f.From), toDB(f.To), int64(f.RuleVersion), f.ConfigHash,
		}
	}
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("save findings: %w", err)
	}
	sum := sha256.Sum256(text)
	return s.save(ctx, "finding", `INSERT INTO finding (time, tenant, rule, tier, ip_proto, port, remote,
		window_s, samples, distinct_remotes, sampling_rate, score, threshold, est_rate,
		reason, gates, from_time, to_time, rule_version, config_hash)`, "finding-"+hex.EncodeToString(sum[:]), rows)
}

// SaveEvidence stores what proves an incident and returns when ClickHouse has
// acknowledged it. Evidence is frozen: of an incident's, the first that was
// saved counts, whatever is saved later.
func (s *Store) SaveEvidence(ctx context.Context, e flow.Evidence) error {
	var forms, names, texts, sums []string
	for _, l := range e.Logs {
		forms, names = append(forms, l.Form), append(names, l.Name)
		texts, sums = append(texts, l.Text), append(sums, l.SHA256)
	}
	// Without a token: reading takes the first row, and a second row costs
	// nothing, while a token may outlive the rows it stands for (see repair).
	return s.save(ctx, "evidence", `INSERT INTO evidence (incident, tenant, frozen, from_time, to_time,
		row_count, truncated, forms, names, texts, sha256s)`, "", [][]any{{
		e.Incident, mapped(e.Tenant), toDB(e.Frozen), toDB(e.From), toDB(e.To),
		uint64(max(e.Rows, 0)), e.Truncated, forms, names, texts, sums,
	}})
}

// Evidence returns what was saved first for an incident, ErrNotFound if
// nothing was.
func (s *Store) Evidence(ctx context.Context, incident string) (flow.Evidence, error) {
	l, err := query(ctx, s, "evidence", `SELECT incident, tenant, frozen, from_time, to_time,
		row_count, truncated, forms, names, texts, sha256s
		FROM evidence WHERE incident = {incident:String} ORDER BY written LIMIT 1`,
		[]any{clickhouse.Named("incident", incident)}, scanEvidence)
	if err != nil {
		return flow.Evidence{}, err
	}
	if len(l) == 0 {
		return flow.Evidence{}, fmt.Errorf("evidence of incident %q: %w", incident, ErrNotFound)
	}
	return l[0], nil
}

func scanEvidence(rows driver.Rows, e *flow.Evidence) error {
	var n uint64
	var forms, names, texts, sums []string
	if err := rows.Scan(&e.Incident, &e.Tenant, &e.Frozen, &e.From, &e.To, &n, &e.Truncated, &forms, &names, &texts, &sums); err != nil {
		return err
	}
	if len(names) != len(forms) || len(texts) != len(forms) || len(sums) != len(forms) {
		return fmt.Errorf("incident %s: logs of %d forms, %d names, %d texts, %d sums", e.Incident, len(forms), len(names), len(texts), len(sums))
	}
	e.Tenant, e.Rows = unmap(e.Tenant), int(n)
	e.Frozen, e.From, e.To = fromDB(e.Frozen), fromDB(e.From), fromDB(e.To)
	for i := range forms {
		e.Logs = append(e.Logs, flow.EvidenceLog{Form: forms[i], Name: names[i], Text: texts[i], SHA256: sums[i]})
	}
	return nil
}
