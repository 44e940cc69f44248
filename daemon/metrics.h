/*
 * Everything that is measured, in the text format of Prometheus.
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */
#ifndef METRICS_H
#define METRICS_H

struct daemon;

/* free(3) it; from memory, but for the process's own figures, of /proc. */
char *metrics_text(const struct daemon *d);

#endif
