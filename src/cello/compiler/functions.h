/* Functions of the cell language that few cells use, on vecs: whole numbers, sines, the arctangent, the error function. They stand behind
   a runtime that has real, vec, broadcast, absolute, exponential and CHOOSE(condition, then, otherwise). */

/* Half to even, as torch: adding and subtracting 2^23 (2^52) leaves a whole number. Larger ones are whole already. */
LOCAL vec round_even(vec v) {
    const vec limit = broadcast(DOUBLE ? (real)4503599627370496.0 : (real)8388608.0), size = absolute(v);
    const vec whole = (size + limit) - limit;
    return CHOOSE(size < limit, CHOOSE(v < broadcast(0), -whole, whole), v);
}
LOCAL vec round_down(vec v) {
    const vec whole = round_even(v);
    return CHOOSE(whole > v, whole - broadcast(1), whole);
}
LOCAL vec modulo(vec a, vec b) { return a - b * round_down(a / b); }
LOCAL vec sign_of(vec v) {
    const vec zero = broadcast(0), one = broadcast(1);
    return CHOOSE(v > zero, one, CHOOSE(v < zero, -one, zero));
}

#if DOUBLE
LANE_BY_LANE(sine, sin)
LANE_BY_LANE(cosine, cos)
LANE_BY_LANE(arctangent, atan)
LANE_BY_LANE(error_function, erf)
#else
/* sin(v + turns * pi / 2): v = n * pi / 2 + r with |r| <= pi / 4, pi / 2 in three parts of which n times the first two is
   exact, then the polynomials of sinf and cosf in Moshier's Cephes. Within 1e-6 up to |v| = 8192. */
LOCAL vec quarter_turned(vec v, real turns) {
    const vec n = round_even(v * (real)0.636619772), one = broadcast(1);
    const vec rest = ((v - n * (real)1.5703125) - n * (real)4.837512969970703125e-4) - n * (real)7.549789948768648e-8;
    const vec r = CHOOSE(rest > one, one, CHOOSE(rest < -one, -one, rest)), z = r * r;
    const vec s = ((z * (real)-1.9515295891e-4 + (real)8.3321608736e-3) * z - (real)1.6666654611e-1) * z * r + r;
    const vec c = ((z * (real)2.443315711809948e-5 - (real)1.388731625493765e-3) * z + (real)4.166664568298827e-2) * z * z
                  - z * (real)0.5 + one;
    const vec q = modulo(n + turns, broadcast(4));
    const vec even = CHOOSE(q == broadcast(2), -s, s), odd = CHOOSE(q == broadcast(3), -c, c);
    return CHOOSE(modulo(q, broadcast(2)) == one, odd, even);
}

#if defined(LANE_BY_LANE)
#define FAR(found, v, function) for (int k = 0; k < V; k++) if (!(absolute(v)[k] <= 8192)) found[k] = function(v[k]);
#else
#define FAR(found, v, function)
#endif
LOCAL vec sine(vec v) {
    vec found = quarter_turned(v, 0);
    FAR(found, v, sinf)
    return found;
}
LOCAL vec cosine(vec v) {
    vec found = quarter_turned(v, 1);
    FAR(found, v, cosf)
    return found;
}

/* Brought within tan(pi / 8) by atan(v) = pi / 2 + atan(-1 / v) = pi / 4 + atan((v - 1) / (v + 1)), then the polynomial of
   atanf in Moshier's Cephes. Within 3e-7. */
LOCAL vec arctangent(vec v) {
    const vec one = broadcast(1), size = absolute(v);
    const vec near = CHOOSE(size > broadcast((real)0.41421356), (size - one) / (size + one), size);
    const vec turn = CHOOSE(size > broadcast((real)0.41421356), broadcast((real)0.785398163), broadcast(0));
    const vec r = CHOOSE(size > broadcast((real)2.41421356), -one / size, near), z = r * r;
    const vec base = CHOOSE(size > broadcast((real)2.41421356), broadcast((real)1.57079633), turn);
    vec p = z * (real)8.05374449538e-2 - (real)1.38776856032e-1;
    p = p * z + (real)1.99777106478e-1;
    p = p * z - (real)3.33329491539e-1;
    p = base + (p * z * r + r);
    return CHOOSE(v < broadcast(0), -p, p);
}

/* Near 0 a polynomial in v^2, farther out 1 - exp(-t q(t)); both are least-squares fits, within 2e-7. */
LOCAL vec error_function(vec v) {
    const vec one = broadcast(1), z = v * v, size = absolute(v), t = CHOOSE(size > broadcast(4), broadcast(4), size);
    vec p = z * (real)-0.000565410586 + (real)0.00492327767;
    p = p * z + (real)-0.0267163851;
    p = p * z + (real)0.112803644;
    p = p * z + (real)-0.376123498;
    p = (p * z + (real)1.12837913) * v;
    vec q = t * (real)1.61756358e-05 + (real)-0.000367116497;
    q = q * t + (real)0.00379255398;
    q = q * t + (real)-0.0239928254;
    q = q * t + (real)0.106373622;
    q = q * t + (real)0.635167655;
    q = one - exponential(-(q * t + (real)1.12861523) * t);
    return CHOOSE(size > one, CHOOSE(v < broadcast(0), -q, q), p);
}
#endif
