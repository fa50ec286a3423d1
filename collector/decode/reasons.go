package decode

// reason is why a datagram, a set (or sFlow sample) or a record was not turned
// into records, or a note about something odd that was. The list is closed.
type reason uint8

// Level says what a reason counts.
type Level string

// The levels. Datagrams received = decoded + Σ dropped over LevelDatagram.
const (
	LevelDatagram Level = "datagram" // the whole datagram was dropped
	LevelSet      Level = "set"      // one set or sample of a decoded datagram was dropped
	LevelRecord   Level = "record"   // one record of a decoded set was dropped
	LevelNote     Level = "note"     // nothing was dropped
)

// The names of the reasons, as used in metrics and JSON.
const (
	ReasonNotAllowed      = "exporter_not_allowed"
	ReasonShort           = "short_header"
	ReasonVersion         = "unknown_version"
	ReasonV5Count         = "netflow5_count"
	ReasonIPFIXLength     = "ipfix_length"
	ReasonSFlowHeader     = "sflow_header"
	ReasonPanic           = "decoder_panic"
	ReasonSetLength       = "set_length"
	ReasonSetID           = "set_id"
	ReasonTemplateBad     = "template_malformed"
	ReasonTemplateUnknown = "template_unknown"
	ReasonDataBad         = "data_malformed"
	ReasonSampleLength    = "sample_length"
	ReasonSampleBad       = "sample_malformed"
	ReasonSampleForeign   = "sample_unknown_format"
	ReasonRecordTruncated = "record_truncated"
	NoteCounterSample     = "counter_sample"
	NoteDiscardedSample   = "discarded_packet_sample"
	NoteFlowRecordBad     = "flow_record_malformed"
	NoteTrailing          = "trailing_bytes"
	NoteTimesClamped      = "times_clamped"
	NoteSamplingRefused   = "sampling_rate_refused"
	NoteSamplingChanged   = "sampling_rate_changed"
	NoteSamplersFull      = "samplers_full"
	NoteTemplateChanged   = "template_redefined"
	NoteTemplateWithdrawn = "template_withdrawn"
	NoteTemplateEvicted   = "template_evicted"
	NoteExporterEvicted   = "exporter_evicted"
	NoteDomainEvicted     = "domain_evicted"
	NoteHeld              = "set_held_back"
	NoteHeldDecoded       = "held_set_decoded"
	NoteRestart           = "exporter_restart"
	NoteDuplicate         = "datagram_late_or_duplicate"
	NoteTotalReduced      = "running_total_reduced"
	NoteTotalsForgotten   = "running_totals_forgotten"
)

const (
	rNotAllowed reason = iota
	rShort
	rVersion
	rV5Count
	rIPFIXLength
	rSFlowHeader
	rPanic
	rSetLength
	rSetID
	rTemplateBad
	rTemplateUnknown
	rDataBad
	rSampleLength
	rSampleBad
	rSampleForeign
	rRecordTruncated
	nCounterSample
	nDiscardedSample
	nFlowRecordBad
	nTrailing
	nTimesClamped
	nSamplingRefused
	nSamplingChanged
	nSamplersFull
	nTemplateChanged
	nTemplateWithdrawn
	nTemplateEvicted
	nExporterEvicted
	nDomainEvicted
	nHeld
	nHeldDecoded
	nRestart
	nDuplicate
	nTotalReduced
	nTotalsForgotten
	numReasons
)

// ReasonInfo describes one entry of the closed list of reasons.
type ReasonInfo struct {
	Name  string
	Level Level
	Help  string // what it means and what to do
}

var reasons = [numReasons]ReasonInfo{
	rNotAllowed:        {ReasonNotAllowed, LevelDatagram, "The source is not in exporters.allow. Add it if it is one of your routers."},
	rShort:             {ReasonShort, LevelDatagram, "The datagram is shorter than its protocol's header. Something other than an exporter sends to this port."},
	rVersion:           {ReasonVersion, LevelDatagram, "The version is none that this port takes. Check that sFlow goes to the sFlow port and NetFlow/IPFIX to theirs; NetFlow v1, v7 and v8 and sFlow before v5 are not supported."},
	rV5Count:           {ReasonV5Count, LevelDatagram, "A NetFlow v5 header counts no records, or more than the datagram can hold. Look for damage on the way, or a broken exporter."},
	rIPFIXLength:       {ReasonIPFIXLength, LevelDatagram, "An IPFIX message says that it is longer than the datagram. It was cut on the way, or the exporter is broken."},
	rSFlowHeader:       {ReasonSFlowHeader, LevelDatagram, "An sFlow header has no valid agent address. The exporter is broken, or this is not sFlow."},
	rPanic:             {ReasonPanic, LevelDatagram, "The decoder failed in a way that it never should. Please report it with a capture of the exporter's datagrams."},
	rSetLength:         {ReasonSetLength, LevelSet, "A set is shorter than its own header or longer than the datagram; what follows it cannot be found and is lost. The exporter is broken."},
	rSetID:             {ReasonSetID, LevelSet, "A set has a reserved id. The exporter uses something that no standard describes."},
	rTemplateBad:       {ReasonTemplateBad, LevelSet, "A template counts more fields than its set holds, has none, or has more than we take. The exporter is broken."},
	rTemplateUnknown:   {ReasonTemplateUnknown, LevelSet, "Data came without its template, and the template did not come while the data could be kept. Let the exporter send templates more often (every 1 to 5 minutes)."},
	rDataBad:           {ReasonDataBad, LevelSet, "A data set is shorter than one record of its template, or could not be decoded. Exporter and template disagree."},
	rSampleLength:      {ReasonSampleLength, LevelSet, "An sFlow sample is longer than what is left of the datagram, or the header counts more samples than there are."},
	rSampleBad:         {ReasonSampleBad, LevelSet, "An sFlow sample counts more records than it can hold, or ends within its header. The exporter is broken."},
	rSampleForeign:     {ReasonSampleForeign, LevelSet, "An sFlow sample has a format that no standard describes (vendor specific). Harmless."},
	rRecordTruncated:   {ReasonRecordTruncated, LevelRecord, "A record with variable-length fields runs over the end of its set; it and the rest of the set are lost."},
	nCounterSample:     {NoteCounterSample, LevelNote, "sFlow interface counters; not used."},
	nDiscardedSample:   {NoteDiscardedSample, LevelNote, "sFlow notices of packets that the switch dropped; not flow records."},
	nFlowRecordBad:     {NoteFlowRecordBad, LevelNote, "A flow record within an sFlow sample, or a sampled header, is cut or malformed; the sample is kept without it."},
	nTrailing:          {NoteTrailing, LevelNote, "Bytes follow the end that the header states; they are ignored."},
	nTimesClamped:      {NoteTimesClamped, LevelNote, "A record ends before it starts or lies in the future; the time of receipt was used. Set the exporter's clock by NTP."},
	nSamplingRefused:   {NoteSamplingRefused, LevelNote, "A stated sampling rate is over 1:1000000 and was not believed. Configure an override if it is true."},
	nSamplingChanged:   {NoteSamplingChanged, LevelNote, "A sampler changed its rate. Normal after a change of configuration."},
	nSamplersFull:      {NoteSamplersFull, LevelNote, "A domain states more sampling rates than are kept; the new one is ignored."},
	nTemplateChanged:   {NoteTemplateChanged, LevelNote, "A template id was given new contents. Normal after a restart or a change of configuration."},
	nTemplateWithdrawn: {NoteTemplateWithdrawn, LevelNote, "An IPFIX exporter withdrew a template."},
	nTemplateEvicted:   {NoteTemplateEvicted, LevelNote, "An exporter sends more templates than are kept; the least recently used one gave way."},
	nExporterEvicted:   {NoteExporterEvicted, LevelNote, "More exporters than are kept; the least recently seen one gave way, its templates with it. Set exporters.allow."},
	nDomainEvicted:     {NoteDomainEvicted, LevelNote, "An exporter uses more observation domains than are kept; the least recently seen one gave way."},
	nHeld:              {NoteHeld, LevelNote, "Data came before its template and was kept."},
	nHeldDecoded:       {NoteHeldDecoded, LevelNote, "Kept data was decoded when its template came."},
	nRestart:           {NoteRestart, LevelNote, "Sequence numbers jumped: the exporter restarted; no loss is counted."},
	nDuplicate:         {NoteDuplicate, LevelNote, "A datagram came after its successors (its loss is taken back) or twice."},
	nTotalReduced:      {NoteTotalReduced, LevelNote, "A record counts by running totals only; what its flow was reported with before was taken off."},
	nTotalsForgotten:   {NoteTotalsForgotten, LevelNote, "More flows report running totals than are remembered; those longest silent would be counted whole again. Let the exporter send deltas (IE 1, 2)."},
}

// Reasons returns the closed list, for metrics and documentation.
func Reasons() []ReasonInfo {
	out := make([]ReasonInfo, numReasons)
	copy(out, reasons[:])
	return out
}

// counters counts by reason.
type counters [numReasons]uint64

// byLevel returns the counts above zero of one level by name; never nil.
func (c *counters) byLevel(l Level) map[string]uint64 {
	m := map[string]uint64{}
	for r, n := range c {
		if n > 0 && reasons[r].Level == l {
			m[reasons[r].Name] = n
		}
	}
	return m
}
