/*
 * Is the daemon alive, and does it take mail: for those who ask by HTTP.
 */
#ifndef HEALTH_H
#define HEALTH_H

struct daemon;

/* Each NULL when all is well, or why not, as a sentence of one line. */
const char *health_not_alive(const struct daemon *d);
/*
 * That SES cannot be reached, or refuses us, is no reason: mail is taken and
 * kept.
 */
const char *health_not_ready(const struct daemon *d);

#endif
