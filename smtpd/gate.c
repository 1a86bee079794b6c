/* gate - smtpd's room: what stands before a 2xx. See gate.h. */
#include "gate.h"

#include "policy/policy.h"

bool gate_connect(struct session *s)
{
	(void)s;
	return true;
}

bool gate_helo(struct session *s, struct command *c)
{
	(void)s;
	(void)c;
	return true;
}

bool gate_mail(struct session *s, struct command *c)
{
	(void)s;
	(void)c;
	return true;
}

bool gate_rcpt(struct session *s, struct command *c)
{
	return policy_rcpt(s, &c->addr);
}

bool gate_data(struct session *s)
{
	(void)s;
	return true;
}

void gate_reset(struct session *s)
{
	(void)s;
}

void gate_end(struct session *s)
{
	(void)s;
}
