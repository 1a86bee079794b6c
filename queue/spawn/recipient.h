/*
 * recipient - whose mailbox a local job is for. Room: queue (spawn local). May block on the system's name service.
 */
#ifndef QUEUE_RECIPIENT_H
#define QUEUE_RECIPIENT_H

#include "common/mailbox.h"
#include "flight.h"

/* As mailbox_find, with one difference: a system user whose home is not there is MAILBOX_UNSURE. smtpd refuses him, because most
 * such accounts are no people; but this mail was accepted already, so the home was there and may come back (a mount that is missing).
 * *text_r: a sentence for what is not MAILBOX_FOUND. */
enum mailbox_result recipient_find(const struct settings *s, const struct flight *f, struct mailbox *box_r, const char **text_r);

#endif
