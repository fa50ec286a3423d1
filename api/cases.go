package api

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/flowcordon/flowcordon/flow"
)

// Cases are the complaints that are kept. Errors that are the caller's fault are
// of type *Error.
type Cases interface {
	List(f CaseFilter) []AbuseCase // latest change first
	Get(id string) (AbuseCase, bool)
	SetStatus(ctx context.Context, id, status, actor, note string, ts time.Time) (AbuseCase, error)
	// Take opens or joins cases for an answer of Complaints.Match.
	Take(ctx context.Context, answer any, actor string, ts time.Time) ([]CaseOpened, error)
}

// CaseFilter selects cases; zero fields select all.
type CaseFilter struct {
	Status   string
	Tenant   netip.Addr // a window key
	Customer string
	Text     string
}

// CaseOpened says where a complaint went.
type CaseOpened struct {
	ID        string `json:"id"`
	Joined    bool   `json:"joined" doc:"a case about the same server and time was there"`
	Duplicate bool   `json:"duplicate" doc:"the same mail was there; nothing was added"`
}

// CaseRow is what a list shows of a case.
type CaseRow struct {
	ID       string         `json:"id" example:"cc-0a1b2c3d4e5f"`
	Status   string         `json:"status" enum:"open,answered,closed"`
	Opened   time.Time      `json:"opened"`
	Updated  time.Time      `json:"updated"`
	By       string         `json:"by" doc:"token that opened it"`
	Reporter string         `json:"reporter,omitempty" doc:"of the latest mail"`
	Subject  string         `json:"subject,omitempty" doc:"of the latest mail"`
	Host     netip.Addr     `json:"host"`
	Tenant   netip.Addr     `json:"tenant" doc:"the address that its traffic is stored under"`
	Customer string         `json:"customer,omitempty" doc:"who held the address then"`
	VDS      string         `json:"vds,omitempty"`
	First    time.Time      `json:"first" doc:"that a line is about"`
	Last     time.Time      `json:"last"`
	Verdicts map[string]int `json:"verdicts" doc:"lines by the verdict of the flows"`
	Incident string         `json:"incident,omitempty" doc:"ours about the same holder at that time"`
	Mails    int            `json:"mails"`
}

// AbuseCase is one with its mails and history.
type AbuseCase struct {
	CaseRow             // exported, or the document leaves its fields out
	Received []CaseMail `json:"received" doc:"the complaints, oldest first"`
	History  []CaseStep `json:"history" doc:"oldest first"`
	Reply    CaseReply  `json:"reply" doc:"draft of an answer to the latest mail; it names no customer"`
}

// CaseMail is one complaint of a case.
type CaseMail struct {
	Time      time.Time      `json:"time"`
	Reporter  string         `json:"reporter,omitempty"`
	Subject   string         `json:"subject,omitempty"`
	MessageID string         `json:"message_id,omitempty"`
	ReportID  string         `json:"report_id,omitempty"`
	Lines     int            `json:"lines"`
	Ports     []uint16       `json:"ports"`
	Verdicts  map[string]int `json:"verdicts"`
}

// CaseStep is one thing that happened to a case.
type CaseStep struct {
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	Kind  string    `json:"kind" enum:"case_opened,case_joined,case_status"`
	Note  string    `json:"note,omitempty"`
}

// CaseReply is the draft of an answer.
type CaseReply struct {
	Subject string `json:"subject"`
	EN      string `json:"en"`
	RU      string `json:"ru"`
}

// NewCase joins the parts of a case.
func NewCase(row CaseRow, mails []CaseMail, history []CaseStep, reply CaseReply) AbuseCase {
	return AbuseCase{CaseRow: row, Received: notNil(mails), History: notNil(history), Reply: reply}
}

func rowOf(c *AbuseCase) CaseRow { return c.CaseRow }

type casesListInput struct {
	Status   string `query:"status" enum:"open,answered,closed,all" default:"open"`
	Tenant   string `query:"tenant" doc:"any address of the tenant" example:"198.18.0.7"`
	Customer string `query:"customer" maxLength:"200"`
	Q        string `query:"q" maxLength:"100" doc:"a part of the id, the subject, the reporter or the report's id"`
	Limit    int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset   int    `query:"offset" minimum:"0" default:"0"`
}

type casesListOutput struct {
	Body struct {
		Metadata   Metadata  `json:"_metadata"`
		Complaints []CaseRow `json:"complaints" doc:"latest change first"`
	}
}

type caseInput struct {
	ID string `path:"id" maxLength:"60" doc:"of the case" example:"cc-0a1b2c3d4e5f"`
}

type caseStatusInput struct {
	ID   string `path:"id" maxLength:"60" doc:"of the case" example:"cc-0a1b2c3d4e5f"`
	Body struct {
		Status string `json:"status" enum:"open,answered,closed" example:"answered"`
		Note   string `json:"note,omitempty" maxLength:"4000" doc:"for colleagues" example:"told the reporter that the server is cut"`
	}
}

type caseOutput struct{ Body AbuseCase }

func (h *Handler) registerCases() {
	if h.deps.Cases == nil {
		return
	}
	op := func(method, id, path, summary, doc string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Description: doc, Tags: []string{"complaints"}}
	}
	register(h, RoleAbuse, op(http.MethodGet, "complaints", "/complaints", "Complaints that are kept, by server", "Those that POST with open=true opened or joined."), h.listCases)
	one := op(http.MethodGet, "complaint-case", "/complaints/{id}", "One case with its mails, its history and the draft of a reply", "The draft names no customer, the rest does.")
	one.Errors = []int{http.StatusNotFound}
	register(h, RoleAbuse, one, h.complaintCase)
	set := op(http.MethodPost, "complaint-status", "/complaints/{id}/status", "Say where a case stands", "Open, answered or closed, with a note for colleagues.")
	set.Metadata = map[string]any{hintKey: `{"status": "answered", "note": "told the reporter"}`}
	register(h, RoleAbuse, set, h.caseStatus)
}

func (h *Handler) listCases(_ context.Context, in *casesListInput) (*casesListOutput, error) {
	f := CaseFilter{Status: in.Status, Customer: in.Customer, Text: in.Q}
	if f.Status == "all" {
		f.Status = ""
	}
	if in.Tenant != "" {
		var err error
		if _, f.Tenant, err = h.host("tenant", in.Tenant); err != nil {
			return nil, err
		}
	}
	list := h.deps.Cases.List(f)
	out := &casesListOutput{}
	out.Body.Metadata, out.Body.Complaints = Metadata{len(list), in.Limit, in.Offset}, []CaseRow{}
	from := min(in.Offset, len(list))
	for _, c := range list[from:min(from+in.Limit, len(list))] {
		out.Body.Complaints = append(out.Body.Complaints, rowOf(&c))
	}
	return out, nil
}

func (h *Handler) complaintCase(_ context.Context, in *caseInput) (*caseOutput, error) {
	c, ok := h.deps.Cases.Get(in.ID)
	if !ok {
		return nil, missing("no_case", echo(in.ID))
	}
	return &caseOutput{c}, nil
}

func (h *Handler) caseStatus(ctx context.Context, in *caseStatusInput) (*caseOutput, error) {
	c, err := h.deps.Cases.SetStatus(ctx, in.ID, in.Body.Status, caller(ctx).Name, in.Body.Note, h.deps.Now())
	h.auditWrite(ctx, "complaint-status", in.ID, err)
	if err != nil {
		return nil, err
	}
	return &caseOutput{c}, nil
}

// takeCases opens or joins cases for an answer, and gives the list for it.
func (h *Handler) takeCases(ctx context.Context, answer any) ([]CaseOpened, error) {
	opened, err := h.deps.Cases.Take(ctx, answer, caller(ctx).Name, h.deps.Now())
	for _, o := range opened {
		h.auditWrite(ctx, "complaint-open", o.ID, nil)
	}
	if err != nil {
		h.auditWrite(ctx, "complaint-open", "", err)
		return nil, err
	}
	return notNil(opened), nil
}

// inTenant selects incidents of an address of ours.
func inTenant(list []flow.Incident, p netip.Prefix) []flow.Incident {
	var out []flow.Incident
	for i := range list {
		if p.Contains(list[i].Tenant) {
			out = append(out, list[i])
		}
	}
	return out
}
