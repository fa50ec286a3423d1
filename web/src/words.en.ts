export const en = {
  title: 'flowcordon', skip: 'Skip to the content', overview: 'Overview', incidents: 'Incidents', hosts: 'Hosts', exporters: 'Exporters', complaints: 'Complaints', audit: 'Audit',
  find: 'Internal address', show: 'Show host', forget: 'Forget token', zone: 'Times', utc: 'UTC', local: 'local time', theme: 'Theme', auto: 'as the system', light: 'light', dark: 'dark', language: 'Language',
  loading: 'Loading…', updated: 'Updated {0}.', offline: 'flowcordon does not answer. Is the service running? Trying again every few seconds.', back: '← Overview', nothing: 'There is nothing to show',
  keys: 'Keys', keysText: '/ find a host · g o overview · g i incidents · g e exporters · g c complaints · g a audit · ? this list',
  close: 'Close', more: 'The newest {0} of {1}.', next: 'Older', none: 'none', unknown: 'unknown', notInventory: 'not in the inventory', done: 'Done.', copy: 'Copy', copied: 'Copied.',

  tokenTitle: 'Token', tokenText: 'The token stays in this browser tab until it is closed. Tokens stand in the configuration under api.tokens.', tokenLabel: 'API token', tokenGo: 'Show the dashboard',

  trafficOut: 'Traffic out', trafficIn: 'Traffic in', openIncidents: 'Open incidents', cutNow: 'Cut or limited now', exportersLive: 'Exporters alive', lossNow: 'Lost at ingest', topTalkers: 'Top talkers, last 5 minutes', by: 'by',
  byOutBytes: 'bytes out', byOutPackets: 'packets out', byInBytes: 'bytes in', byInPackets: 'packets in', bySYN: 'SYN out',
  noIncidents: 'No open incidents. Nobody is scanning or flooding others as far as the exporters show.', noIncidentsMatch: 'No incident matches.', noTraffic: 'No traffic in the last five minutes. The exporters show whether anything arrives.',
  noExporters: 'No exporter has sent anything yet. Point your routers at the addresses under listen: and add them to exporters.allow.',
  frozen: '{0} is frozen since {1}: {2} tenants tripped it at once, which is more likely a fault of the data. Nothing is done automatically.', frozenAll: 'Every rule', lift: 'Lift the freeze', liftHint: 'Why the findings are right',

  state: 'State', address: 'Address', tenant: 'Tenant', what: 'What', why: 'Why', age: 'Age', out: 'Out', in: 'In', packetsOut: 'Packets out', syn: 'SYN samples', incident: 'incident', all: 'all', live: 'open',
  holder: 'Holder', contact: 'Contact', hypervisor: 'Hypervisor', opened: 'Opened', whyHere: 'Why it stands here', lastError: 'Last error', statement: 'Statement', id: 'Id', measure: 'Measure in force', prior: 'Earlier offences', would: 'Would call (dry run)',
  refuse: 'Too many offences: a human decides on further service.', probation: 'Opened while the holder was on probation.',
  evidence: 'Evidence', evidenceFrom: 'From {0} flow records of {1} to {2}, frozen {3}.', truncated: 'More matched than were kept.', timeline: 'Timeline', time: 'Time', step: 'Step', actor: 'By', reason: 'Reason',
  score: 'Score {0} of {1} needed, {2} samples at 1:{3}, {4} to {5}.', heldBy: 'Held back by: {0}.', needsRole: '{0}: needs a token of the role {1}; yours is {2}.',
  doRelease: 'Give the network back', hintRelease: 'What the customer says was found and done', doApprove: 'Take the measure', hintApprove: 'Why the measure is to be taken', doClose: 'Close the incident', hintClose: 'Why nothing is to be done',
  doMistake: 'Give back: it was a mistake', hintMistake: 'What was wrong; it counts as no offence', doBlock: 'Block a port', hintBlock: 'Why the port is to be blocked', port: 'Port',

  traffic: 'Traffic', scanPicture: 'Scan picture', scanText: 'Each dot is a record of an attempt: when, and to which address. A scan is a rain of dots, a client a few lines.', noDots: 'No attempts stored in this time.', flows: 'Flows', noFlows: 'No flows stored in this time.', range: 'Time',
  lastHour: 'last hour', last6h: 'last 6 hours', lastDay: 'last day', lastWeek: 'last week', remote: 'Remote', proto: 'Protocol', dir: 'Direction', packets: 'Packets', bytes: 'Bytes', noSeries: 'No traffic stored in this time.', bitsPerS: 'bit/s', packetsPerS: 'pkt/s', targets: '{0} addresses, {1} attempts',

  protocols: 'Protocol', lastSeen: 'Last seen', records: 'Records', lost: 'Lost', dropped: 'Dropped', sampling: 'Sampling', clock: 'Clock', delay: 'Export delay', duration: 'Flow duration', templates: 'Templates', problems: 'Problems', ago: '{0} ago',

  complaintText: 'Paste what arrived: log lines of any shape, a whole mail with its headers, XARF or CSV. Nothing is stored.', complaintLabel: 'Complaint', complaintZone: 'Zone of times without one', complaintGo: 'Match', file: 'or a file', noLines: 'No line was understood.',
  verdict: 'Verdict', line: 'Line', cases: 'Who it is about', lines: 'Lines', draft: 'Draft of a reply', unread: '{0} lines were not understood', skew: 'With the clock off by {0}, {1} of {2} lines would be confirmed instead of {3}. This is not applied.', shared: 'Several customers share this address.',

  auditEmpty: 'Nothing matches.', kind: 'Event', outcome: 'Outcome', undoTitle: 'Undo', undoText: 'Gives back everything that was cut or limited without a human since then. It may be repeated.', undoSince: 'Since', undoGo: 'Give all of it back', undoHint: 'What went wrong', undone: '{0} are being given back, {1} were already.',

  rules: { netscan: 'network scan', portscan: 'port scan', blockscan: 'block scan', udp_sweep: 'UDP sweep', icmp_sweep: 'ping sweep', syn_flood: 'SYN flood', udp_flood: 'UDP flood', icmp_flood: 'ICMP flood', packet_flood: 'packet flood', reflector: 'reflector', spam: 'spam', bruteforce: 'password guessing', blocked_port: 'blocked port', spoofed_source: 'spoofed source' } as Record<string, string>,
  states: { open: 'recorded', notified: 'written to', held: 'held back', awaiting_approval: 'waits for approval', suspending: 'being done', suspended: 'done, checking', verified: 'done, traffic gone', unverified: 'done, traffic goes on', failed: 'failed', releasing: 'being given back', released: 'given back', closed: 'closed' } as Record<string, string>,
  verdicts: { confirmed: 'confirmed', contradicted: 'contradicted', not_visible: 'not visible', no_data: 'no data', shifted: 'at another time', unknown_holder: 'holder unknown', not_ours: 'not ours' } as Record<string, string>,
  measures: { block_port: 'port blocked', rate_limit: 'rate limited', cut: 'network cut' } as Record<string, string>,
  forms: { netscan: 'Netscan list', summary: 'Rates by remote address', packets: 'Packets' } as Record<string, string>,
  ages: { d: 'd', h: 'h', min: 'min', s: 's' },
};
