package parse
import ("testing";"context";"os";"fmt";"time")
func TestScratch(t *testing.T){
 b,err:=os.ReadFile(os.Getenv("F")); if err!=nil{t.Skip(err)}
 c,err:=Parse(context.Background(),Input{Data:b,Received:time.Date(2026,11,22,12,0,0,0,time.UTC)})
 if err!=nil{t.Fatal(err)}
 fmt.Printf("from=%q subj=%q date=%v rid=%q parts=%+v notes=%v text=%d unread=%d\n",c.From,c.Subject,c.Date,c.ReportID,c.Parts,c.Notes,c.TextLines,c.UnreadCount)
 for _,o:=range c.Observations{fmt.Printf("%d:%d %-16s %s %s%+d/%s alt=%v  %v:%d %v -> %v:%d %v p%d %s n=%d ans=%v usual=%v roles?=%v A=%v\n",o.Part,o.Line,o.Shape,o.Time.Format(time.RFC3339Nano),o.Zone.Name,o.Zone.Offset,o.Zone.Source,o.Zone.Alternatives,o.Src.Addr,o.Src.Port,o.Src.Prefix,o.Dst.Addr,o.Dst.Port,o.Dst.Prefix,o.IPProto,o.What,o.Count,o.Answer,o.Usual,o.RolesAssumed,o.Assumed)}
 for _,u:=range c.Unread{fmt.Printf("U %d:%d %s (%s) | %s\n",u.Part,u.Line,u.Reason,u.Detail,u.Raw)}
}
