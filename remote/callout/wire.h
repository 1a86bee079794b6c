/*
 * wire - what a callout finds out, and what the numbers in its records mean.
 */
#ifndef REMOTE_CALLOUT_WIRE_H
#define REMOTE_CALLOUT_WIRE_H

enum callout_verdict {
	CALLOUT_UNKNOWN,      /* 4xx, no connection, no time, a limit of ours, a refusal that is about us */
	CALLOUT_EXISTS,       /* 2xx to RCPT */
	CALLOUT_NOBODY,       /* 5xx to RCPT, or the domain can have no mail at all */
	CALLOUT_NO_BOUNCES,   /* 5xx to MAIL FROM:<> */
	CALLOUT_UNASKED,      /* nobody is to be asked about it: an empty reverse-path, a literal, a domain whose exchanger is this host */
	CALLOUT_VERDICTS,
};

/* What the verdict holds for, and so what it is remembered for. */
enum callout_scope { CALLOUT_NOW /* not at all */, CALLOUT_OF_ADDRESS, CALLOUT_OF_DOMAIN, CALLOUT_SCOPES };

#define CALLOUT_HOST_MAX 320u
#define CALLOUT_TEXT_MAX 300u

/* host: "name[ip]", empty when it came to none. Both are printable ASCII. */
struct callout_said {
	enum callout_verdict verdict;
	char host[CALLOUT_HOST_MAX + 1], text[CALLOUT_TEXT_MAX + 1];
};

#endif
