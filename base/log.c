#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"

enum { LINE_MAX_BYTES = 4096 };

static enum log_level least_level = LOG_INFO_;
static int to_journal;

/* The last warnings and errors: fixed memory, as logging never fails. */
static struct {
    pthread_mutex_t lock;
    char lines[LOG_RECENT_LINES][LOG_RECENT_BYTES];
    size_t count; /* of all that were ever kept */
} recent = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct {
    const char *name;
    int priority; /* syslog(3) */
} levels[] = {
    [LOG_DEBUG_] = {"debug", 7},
    [LOG_INFO_] = {"info", 6},
    [LOG_WARN_] = {"warn", 4},
    [LOG_ERROR_] = {"error", 3},
};

void
log_open(enum log_level least)
{
    least_level = least;
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

int
log_level_parse(const char *name, enum log_level *out, struct error *err)
{
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (str_eq(levels[i].name, name)) {
            *out = (enum log_level)i;
            return 0;
        }
    return error_set(err, ERR_INVALID, "log level \"%s\" is none of debug, info, warn, error", name);
}

/* A fixed line that is cut when full: logging neither allocates nor fails. */
struct line {
    char text[LINE_MAX_BYTES];
    size_t length, plain; /* where it begins behind the journal's priority */
};

static void
put_char(struct line *line, char c)
{
    if (line->length < sizeof line->text - 1)
        line->text[line->length++] = c;
}

static void
put_raw(struct line *line, const char *s)
{
    while (*s)
        put_char(line, *s++);
}

static void
put_value(struct line *line, const char *s)
{
    if (*s && !strpbrk(s, " \"=\\\n\r\t")) {
        put_raw(line, s);
        return;
    }
    put_char(line, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            put_char(line, '\\');
        if (*s == '\n')
            put_raw(line, "\\n");
        else
            put_char(line, (unsigned char)*s < ' ' ? ' ' : *s);
    }
    put_char(line, '"');
}

static void
keep(const char *text, size_t length)
{
    (void)pthread_mutex_lock(&recent.lock);
    char *line = recent.lines[recent.count++ % LOG_RECENT_LINES];
    size_t kept = length < LOG_RECENT_BYTES ? length : LOG_RECENT_BYTES - 1;
    memcpy(line, text, kept);
    line[kept] = '\0';
    (void)pthread_mutex_unlock(&recent.lock);
}

void
log_recent(struct strv *lines)
{
    (void)pthread_mutex_lock(&recent.lock);
    size_t first = recent.count > LOG_RECENT_LINES ? recent.count - LOG_RECENT_LINES : 0;
    for (size_t i = first; i < recent.count; i++) {
        char *line = str_dup(recent.lines[i % LOG_RECENT_LINES]);
        bool text = str_utf8_valid(line, strlen(line));
        for (char *c = line; !text && *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        strv_take(lines, line);
    }
    (void)pthread_mutex_unlock(&recent.lock);
}

void
log_line(enum log_level level, const char *message, ...)
{
    if (level < least_level)
        return;
    struct line line = {.length = 0};
    char head[CLOCK_RFC3339_SIZE + 8];
    if (to_journal) {
        (void)snprintf(head, sizeof head, "<%d>", levels[level].priority);
        put_raw(&line, head);
    }
    line.plain = line.length;
    put_raw(&line, "time=");
    clock_format_rfc3339(clock_now_ns(), head);
    put_raw(&line, head);
    put_raw(&line, " level=");
    put_raw(&line, levels[level].name);
    put_raw(&line, " msg=");
    put_value(&line, message);
    va_list args;
    va_start(args, message);
    for (const char *key; (key = va_arg(args, const char *));) {
        const char *value = va_arg(args, const char *);
        if (!value)
            continue;
        put_char(&line, ' ');
        put_raw(&line, key);
        put_char(&line, '=');
        put_value(&line, value);
    }
    va_end(args);
    if (level >= LOG_WARN_)
        keep(line.text + line.plain, line.length - line.plain);
    line.text[line.length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line.text, line.length);
    (void)written; /* nobody is left to tell */
}
