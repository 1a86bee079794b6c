/*
 * dnswire - names and texts as they stand in DNS records (RFC 1035 3.1, 3.3.9, 3.3.14). The octets come from strangers.
 */
#ifndef REMOTE_DNSWIRE_H
#define REMOTE_DNSWIRE_H

#include "common/bytes.h"

#define DNSWIRE_NAME 256   /* a name as text, with NUL */

/* An uncompressed name that fills `wire`: lower case, without the last dot; the root is "". False, and an empty text: it does not end where
 * `wire` does, is compressed, too long, or has an octet in a label that no host name has (so a dot inside a label, too). */
bool dnswire_name(struct bytes wire, char out[DNSWIRE_NAME]);

/* The data of a TXT record: its strings, one behind the other, cut where `out` is full; what is no printable ASCII becomes "?". An empty text: malformed. */
void dnswire_text(struct bytes data, char *out, size_t size);

/* The data of an MX record. */
bool dnswire_mx(struct bytes data, uint16_t *preference_r, char name_r[DNSWIRE_NAME]);

#endif
