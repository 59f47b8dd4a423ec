{{ config(schedule='1s') }}

select
    a.name as airline,
    extract(month from f.flight_date)::int as month,
    count(*) as flights,
    count(*) filter (where f.arr_delay >= 15) as late,
    sum(f.arr_delay) as minutes,
    round(avg(f.dep_delay), 2) as avg_dep_delay,
    round(avg(f.arr_delay), 2) as avg_arr_delay,
    max(f.arr_delay) as worst
from {{ source('nyc', 'flights') }} as f
inner join {{ source('nyc', 'airlines') }} as a on a.carrier = f.carrier
where f.dep_time is not null
group by a.name, extract(month from f.flight_date)::int
