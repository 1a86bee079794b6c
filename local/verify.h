/*
 * verify - `sendmail -bv`: where mail to an address would go, from the settings and the accounts of this host alone.
 */
#ifndef LOCAL_VERIFY_H
#define LOCAL_VERIFY_H

/* One line a address on stdout; `arguments` ends with NULL. 0, EX_NOUSER when one of them has no mailbox here, EX_DATAERR,
 * EX_TEMPFAIL or EX_CONFIG. Blocks on disk and on the name service; asks no DNS. */
int verify_addresses(char **arguments);

#endif
