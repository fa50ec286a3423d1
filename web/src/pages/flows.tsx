import { useState } from 'preact/hooks';
import { get, save } from '../api';
import type { Flow } from '../api';
import { named, w } from '../i18n';
import { num, proto, stamp, whole } from '../format';
import { fill } from '../i18n';
import { useLive } from '../live';
import type { Range } from '../range';
import { go, useRoute } from '../route';
import { Choice, Empty, Failed, Section, Table } from '../ui';

const PAGE = 100, MOST = 5000;

// Flows are the stored records of an address, by the filters of the address line.
export function Flows({ ip, range }: { ip: string; range: Range }) {
  const { query } = useRoute();
  const at = '/hosts/' + encodeURIComponent(ip);
  const limit = Math.min(MOST, Number(query.get('limit')) || PAGE);
  const q = new URLSearchParams(range.query);
  for (const k of ['dir', 'proto', 'port', 'remote']) { const v = query.get(k); if (v) q.set(k, v); }
  const path = `${at}/flows?${q}`;
  const flows = useLive(s => get<{ flows: Flow[]; truncated: boolean }>(`${path}&limit=${limit}`, s), [path, limit], { every: range.fixed ? 0 : 15000 });
  const [said, say] = useState('');
  const csv = async () => {
    try { await save(path + '&limit=20000', 'text/csv', `flows-${ip.replaceAll(':', '-')}.csv`); say(''); } catch (e) { say((e as Error).message); }
  };
  return <Section title={w.flows} busy={flows.old} extra={<button type="button" onClick={csv}>{w.csv}</button>}>
    <div class="filters">
      <Choice label={w.dir} value={query.get('dir') ?? ''} set={v => go(at, { dir: v })} of={[['', w.all], ['out', w.out], ['in', w.in]]} />
      <Choice label={w.proto} value={query.get('proto') ?? ''} set={v => go(at, { proto: v })} of={[['', w.all], ['tcp', 'tcp'], ['udp', 'udp'], ['icmp', 'icmp'], ['icmpv6', 'icmpv6']]} />
      <Field label={w.port} name="port" at={at} value={query.get('port') ?? ''} size={6} pattern="\d{1,5}" />
      <Field label={w.remote} name="remote" at={at} value={query.get('remote') ?? ''} size={18} />
    </div>
    {said && <p class="bad-text" role="alert">{said}</p>}
    <Failed error={flows.error} />
    {flows.data ? <>
      <Table caption={w.flows} rows={flows.data.flows.slice().reverse()} empty={w.noFlows} keyOf={(f, i) => f.time + f.remote + f.remote_port + i} columns={[
        { head: w.time, cell: f => <span class="when">{stamp(f.time)}</span> }, { head: w.dir, cell: f => f.dir === 'out' ? '→ ' + w.out : '← ' + w.in },
        { head: w.remote, cell: f => <span class="mono">{f.remote}</span> }, { head: w.port, cell: f => `${proto(f.ip_proto)}${f.svc_port ? '/' + f.svc_port : ''}` }, { head: w.what, cell: f => named(w.classes, f.class) },
        { head: w.estPackets, right: true, cell: f => <span title={`${f.packets} × ${f.sampling_rate}`}>{whole(f.packets * f.sampling_rate)}</span> }, { head: w.estBytes, right: true, cell: f => num(f.bytes * f.sampling_rate, 'B') },
      ]} />
      {flows.data.truncated && limit < MOST && <p><button type="button" onClick={() => go(at, { limit: String(Math.min(MOST, limit * 5)) })}>{w.showMore}</button> <span class="note">{fill(w.newestOnly, whole(limit))}</span></p>}
      <p class="note">{w.scaled}</p>
    </> : <Empty>{flows.error ? '' : w.loading}</Empty>}
  </Section>;
}

function Field({ label, name, at, value, size, pattern }: { label: string; name: string; at: string; value: string; size: number; pattern?: string }) {
  return <form class="field" onSubmit={e => { e.preventDefault(); go(at, { [name]: new FormData(e.currentTarget).get(name)!.toString().trim() }); }}>
    <label>{label} <input key={value} name={name} defaultValue={value} size={size} pattern={pattern} placeholder={w.all} onBlur={e => { if (e.currentTarget.value.trim() !== value && e.currentTarget.validity.valid) go(at, { [name]: e.currentTarget.value.trim() }); }} /></label>
  </form>;
}
