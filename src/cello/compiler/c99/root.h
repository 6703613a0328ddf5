/* The only function of the C library's mathematics: link with -lm. */
LOCAL vec root(vec v) {
    float values[LANES];
    store(values, v);
    for (int k = 0; k < LANES; k++) values[k] = sqrtf(values[k]);
    return load(values);
}
