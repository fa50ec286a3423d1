import { get } from '../api';
import type { Me, Tenant } from '../api';
import { isTime, stamp, whole } from '../format';
import { w } from '../i18n';
import { aboutIncidents, useLive } from '../live';
import { Empty, Failed, HostLink, may, Section, Table } from '../ui';
import { CaseTable } from './cases';
import { ExemptionTable } from './exemptions';
import { Incidents } from './lists';

// TenantPage is one customer with what is held, what it did and what was said of it.
export function TenantPage({ id, me }: { id: string; me: Me }) {
  const got = useLive(s => get<Tenant>('/tenants/' + encodeURIComponent(id), s), [id], { every: 15_000, about: aboutIncidents });
  const t = got.data;
  if (!t) return got.error?.status ? <><p><a href="#/">{w.back}</a></p><h1 tabIndex={-1}>{w.nothing}</h1><Failed error={got.error} /></> : <Empty>{w.loading}</Empty>;
  return <>
    <h1 tabIndex={-1}>{w.tenant} {t.customer}</h1>
    <div class="pair">
      <Section title={w.holdings}>
        <Table caption={w.holdings} rows={t.holdings} empty={w.none} keyOf={(_, i) => i} columns={[
          { head: w.address, cell: h => h.prefix ? <><HostLink ip={h.prefix.replace(/\/\d+$/, '')} />{/\/(32|128)$/.test(h.prefix) ? '' : /\/\d+$/.exec(h.prefix)?.[0]}</> : '–' }, { head: 'VDS', cell: h => <span class="raw">{h.vds ?? '–'}</span> }, { head: w.hypervisor, cell: h => <span class="raw">{h.hypervisor ?? '–'}</span> },
          { head: w.held, cell: h => isTime(h.from) || isTime(h.to) ? <span class="when">{stamp(h.from).slice(0, 10)} – {isTime(h.to) ? stamp(h.to).slice(0, 10) : w.today}</span> : w.today }]} />
      </Section>
      <Section title={w.standing}>
        <Table caption={w.standing} rows={t.standing} empty={w.none} keyOf={(_, i) => i} columns={[
          { head: 'VDS', cell: x => <span class="raw">{x.vds ?? '–'}</span> }, { head: w.offences, right: true, cell: x => whole(x.offences) }, { head: w.probationHead, cell: x => x.probation ? <span class="badge warn">{w.yes}</span> : w.no }]} />
      </Section>
    </div>
    <Section title={w.incidents}><Incidents list={t.incidents} empty={w.noIncidentsTenant} /></Section>
    <Section title={w.exemptions} extra={may(me, 'operator') && <a href={'#/exemptions?customer=' + encodeURIComponent(id)}>{w.exemptAdd}</a>}><ExemptionTable list={t.exemptions} me={me} mine="" done={got.refresh} /></Section>
    {may(me, 'abuse') && <Section title={w.complaints}><CaseTable list={t.complaints} empty={w.none} /></Section>}
  </>;
}
