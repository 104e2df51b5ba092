#include "cri/annotations.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define LEAST_BITS 1e3
#define MOST_BITS  1e15

static const struct {
    const char *suffix;
    double factor;
} units[] = {
    {"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}, {"Ki", 1024}, {"Mi", 1 << 20}, {"Gi", 1024 << 20}, {"Ti", 1099511627776.0},
};

static int
read_quantity(const char *text, const char *what, int64_t *out, struct error *err)
{
    char *end;
    double number = strtod(text, &end);
    /* strtod takes more than a quantity has: signs, hexadecimal, "inf". */
    if (end != text && strspn(text, "0123456789.") == (size_t)(end - text))
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (str_eq(units[i].suffix, end)) {
                number *= units[i].factor;
                if (number < LEAST_BITS || number > MOST_BITS)
                    return error_set(err, ERR_INVALID, "annotation %s: \"%.40s\" is not within 1k and 1P bits a second", what, text);
                *out = (int64_t)number;
                return 0;
            }
    return error_set(err, ERR_INVALID, "annotation %s: \"%.40s\" is no quantity", what, text);
}

int
annotations_read(struct pod_config *pod, struct error *err)
{
    const struct {
        const char *annotation;
        int64_t *bits;
    } wishes[] = {
        {"kubernetes.io/ingress-bandwidth", &pod->ingress_bits},
        {"kubernetes.io/egress-bandwidth", &pod->egress_bits},
    };
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        const char *text = strmap_get(&pod->annotations, wishes[i].annotation);
        if (text)
            TRY(read_quantity(text, wishes[i].annotation, wishes[i].bits, err));
    }
    pod->mac = str_dup(strmap_get(&pod->annotations, "io.crisp/mac"));
    pod->ip = str_dup(strmap_get(&pod->annotations, "io.crisp/ip"));
    return 0;
}
