/*
 * content - what judges a message by more than its envelope: milters (setting `milters`), asked at each command and shown the whole message at its end;
 * then filters (`filters`, smtpd/ask/filterask.h), which see it as it will be queued.
 *
 * With any configured a message is kept aside (draft.h) until all have judged it, in the order of the lists, each seeing what those before it made of
 * the message; only then does the queue hear of it. With none, s->content is NULL and nothing of this is ever called.
 * A process has one struct content and serves one session at a time with it.
 */
#ifndef SMTPD_CONTENT_CONTENT_H
#define SMTPD_CONTENT_CONTENT_H

#include "smtpd/session/command.h"
#include "letter.h"
#include "milter.h"

struct content {
	struct milter *milters;
	size_t count;
	struct letter letter;
	bool discard;                 /* the message is taken and thrown away */
	struct str hold;              /* not empty: it is taken and held in the queue; envelope.h's Q */
	bool refused;                 /* DATA was refused: it stays so */
	char tag[24];                 /* of the transaction: macro i */
	unsigned serial;
};

/* Is there anything to ask? */
bool content_is_configured(const struct settings *settings);
bool content_init(struct content *content, const struct settings *settings);   /* false: no memory */
void content_free(struct content *content);

/* The gate's calls (gate.h). */
bool content_connect(struct session *s);
bool content_helo(struct session *s, struct command *c);
bool content_mail(struct session *s, struct command *c);
bool content_rcpt(struct session *s, struct command *c);
bool content_data(struct session *s);
void content_reset(struct session *s);
void content_end(struct session *s);
/* A line that is no command of ours. False: a milter has answered it. */
bool content_unknown(struct session *s, struct bytes line);

/* The message: octets as they come; at its end the verdict, true: it may go to the queue (edits of the envelope are made), false: answered. */
void content_octets(struct session *s, const struct bytes *spans, size_t count);
bool content_judge(struct session *s);
/* Fields that stand before our own Received:, then everything behind it, for the enqueuer. */
bool content_front(const struct content *content, struct str *out);
bool content_give(const struct content *content, struct enqueuer *e);
/* The same piece by piece, for anybody. False: `take` said so, or it cannot be read. */
bool content_each(const struct content *content, bool (*take)(void *to, struct bytes piece), void *to);
bool content_refuse_draft(struct session *s, int error);   /* it could not be kept aside: answered; false */
void content_whole(struct session *s);    /* it is answered: forget it */

/* The message is to be held in the queue. The first who wants it is told of there. False: no memory. */
bool content_hold(struct content *content, const char *list, struct bytes name, struct bytes reason);

/* ---- between content.c and inspect.c */
bool content_away(struct session *s, struct milter *m, const char *rcpt);   /* its line's default; false: refused, answered */
/* A verdict that is no change; `stage` as in content.c. False: refused, answered. */
enum content_stage { CONTENT_CONNECT, CONTENT_HELO, CONTENT_MAIL, CONTENT_RCPT, CONTENT_DATA, CONTENT_MESSAGE, CONTENT_UNKNOWN };
bool content_verdict(struct session *s, struct milter *m, const struct milter_reply *r, enum content_stage stage, const char *rcpt);
bool inspect_message(struct session *s, struct milter *m);                  /* show it all; false: answered */

#endif
