/*
 * probe - whether a server would take a report for an address: MAIL with an empty reverse-path, RCPT, and never DATA. Room: remote, bytes from strangers.
 */
#include "client_parts.h"

static struct outcome answer(struct client *c, enum step step, enum stage stage)
{
	enum conn_result result = conn_reply(&c->conn, client_wait(c, step));

	return result == CONN_OK ? reply_outcome(&c->conn.reply, stage, '2') : client_failure(c, step, result);
}

struct outcome client_probe(struct client *c, struct bytes address, bool needs_utf8)
{
	struct outcome o;

	if (needs_utf8 && !c->utf8)
		return outcome_make(V_TEMP, STAGE_RCPT, "4.6.7", LIT("the server takes no addresses in UTF-8"));   /* about this one, not about others */
	conn_say(&c->conn, needs_utf8 ? LIT("MAIL FROM:<> SMTPUTF8\r\n") : LIT("MAIL FROM:<>\r\n"));
	o = answer(c, STEP_MAIL, STAGE_MAIL);
	if (o.verdict != V_OK)
		return o;
	conn_say(&c->conn, LIT("RCPT TO:<"));
	conn_say(&c->conn, address);
	conn_say(&c->conn, LIT(">\r\n"));
	return answer(c, STEP_RCPT, STAGE_RCPT);
}
