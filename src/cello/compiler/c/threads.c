/* The threads of a call. */

#include <pthread.h>

struct team {
    int (*one)(const void *arguments, long group, long member, struct team *team);
    const void *arguments;
    long groups, begun, added;
    int failed;
    pthread_mutex_t lock;
    pthread_cond_t turn;
};
struct member { struct team *team; long number; };

static void *work_on(void *given) {
    const struct member *member = given;
    struct team *team = member->team;
    for (long group; (group = __atomic_fetch_add(&team->begun, 1, __ATOMIC_RELAXED)) < team->groups;)
        if (team->one(team->arguments, group, member->number, team))
            __atomic_store_n(&team->failed, 1, __ATOMIC_RELAXED);
    return NULL;
}

SHARED void add_in_turn(struct team *team, long group, real *total, const real *part, long N) {
    pthread_mutex_lock(&team->lock);
    while (team->added != group) pthread_cond_wait(&team->turn, &team->lock);
    pthread_mutex_unlock(&team->lock);
    for (long j = 0; j < N; j += V) store(total + j, group ? load(total + j) + load(part + j) : load(part + j));
    pthread_mutex_lock(&team->lock);
    team->added++;
    pthread_cond_broadcast(&team->turn);
    pthread_mutex_unlock(&team->lock);
}

SHARED int run_in_threads(int (*one)(const void *, long, long, struct team *), const void *arguments, long groups,
                          long threads) {
    struct team team = {one, arguments, groups, 0, 0, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
    pthread_t running[GROUPS];
    struct member members[GROUPS];
    int started[GROUPS] = {0};
    if (threads > groups) threads = groups;
    for (long k = 0; k < threads; k++) {
        const struct member member = {&team, k};
        members[k] = member;
        started[k] = k > 0 && pthread_create(&running[k], NULL, work_on, &members[k]) == 0;
    }
    work_on(&members[0]);    /* all that no thread could be had for, too */
    for (long k = 0; k < threads; k++)
        if (started[k]) pthread_join(running[k], NULL);
    return team.failed;
}
