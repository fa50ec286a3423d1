package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"
)

// sessionView is a session as others may see it.
type sessionView struct {
	ID      string    `json:"id" example:"Zm9vYmFyYmF6cXV4"`
	Name    string    `json:"name" doc:"as in the audit log" example:"oidc:anna"`
	Subject string    `json:"subject" doc:"of the provider's ID token"`
	Role    string    `json:"role" enum:"viewer,abuse,operator,admin"`
	Remote  string    `json:"remote" doc:"address of the connection that signed in: that of the proxy, where there is one"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"`
	Expires time.Time `json:"expires" doc:"at the latest"`
	Own     bool      `json:"own" doc:"the caller's"`
}

type sessionsOutput struct {
	Body struct {
		Sessions []sessionView `json:"sessions" doc:"newest first"`
	}
}

type sessionInput struct {
	ID string `path:"id" maxLength:"64" doc:"of the session, as listed" example:"Zm9vYmFyYmF6cXV4"`
}

func (h *Handler) registerSessions() {
	register(h, RoleAdmin, huma.Operation{OperationID: "sessions", Method: http.MethodGet, Path: "/sessions", Tags: []string{"session"},
		Summary: "Who is signed in", Description: "Browsers of people who came by api.oidc; none without it."}, h.listSessions)
	register(h, RoleAdmin, huma.Operation{OperationID: "session-end", Method: http.MethodDelete, Path: "/sessions/{id}", Tags: []string{"session"},
		Summary: "End a session", Description: "At once, streams of events too; answers with those that are left. Whoever still may sign in at the provider can do so again."}, h.endSession)
}

func (h *Handler) listSessions(ctx context.Context, _ *struct{}) (*sessionsOutput, error) {
	out := &sessionsOutput{}
	out.Body.Sessions = []sessionView{}
	list := h.live.list(h.deps.Now())
	for i := range list {
		x := &list[i]
		out.Body.Sessions = append(out.Body.Sessions, sessionView{ID: x.id, Name: x.token.Name, Subject: x.subject, Role: x.token.Role.String(), Remote: x.remote,
			Created: x.created.UTC(), Used: x.used.UTC(), Expires: x.token.Expires.UTC(), Own: x.id == caller(ctx).session})
	}
	return out, nil
}

func (h *Handler) endSession(ctx context.Context, in *sessionInput) (*sessionsOutput, error) {
	var err error
	if h.live.end(func(x *session) bool { return x.id == in.ID }) == 0 {
		err = missing("no_session")
	}
	t := caller(ctx)
	h.audit.Info("session ended", zap.String("session", in.ID), zap.String("actor", t.Name), zap.Bool("done", err == nil), zap.String("request", requestID(ctx)))
	if err != nil {
		return nil, err
	}
	return h.listSessions(ctx, nil)
}
