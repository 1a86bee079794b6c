/* gate - smtpd's room: what stands before a 2xx. See gate.h. */
#include "gate.h"

#include "smtpd/content/content.h"
#include "smtpd/ask/guardask.h"
#include "smtpd/policy/policy.h"

void gate_name(struct session *s)
{
	policy_name(s);
}

bool gate_connect(struct session *s)
{
	return guardask_connect(s)
		&& policy_connect(s) && content_connect(s);
}

bool gate_helo(struct session *s, struct command *c)
{
	return policy_helo(s, c->argument) && content_helo(s, c);
}

bool gate_mail(struct session *s, struct command *c)
{
	return guardask_mail(s, &c->addr)
		&& policy_mail(s, &c->addr) && content_mail(s, c);
}

bool gate_rcpt(struct session *s, struct command *c)
{
	return guardask_rcpt(s, &c->addr)
		&& policy_rcpt(s, &c->addr)
		&& content_rcpt(s, c);
}

void gate_unknown(struct session *s)
{
	guardask_unknown(s);
}

bool gate_data(struct session *s)
{
	return content_data(s);
}

void gate_reset(struct session *s)
{
	content_reset(s);
}

void gate_end(struct session *s)
{
	guardask_end(s);
	content_end(s);
}
