#include "runtime/env.h"

#include <string.h>

static bool
has(const struct strv *env, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, length) == 0 && env->items[i][length] == '=')
            return true;
    return false;
}

void
env_compile(const struct container_config *config, bool tty, const char *hostname, const char *home, struct strv *out)
{
    const struct {
        const char *name, *value;
        bool wanted;
    } defaults[] = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", true},
        {"HOSTNAME", hostname, true},
        {"TERM", "xterm", tty || config->tty},
        {"HOME", home, true},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (defaults[i].wanted && !has(&config->env, defaults[i].name))
            strv_addf(out, "%s=%s", defaults[i].name, defaults[i].value);
    strv_copy(out, &config->env);
}
